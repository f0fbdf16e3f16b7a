"""The page that opens the corrected collector names its steps as they are taken."""

import importlib
import inspect
import re

from chameleon_usage.reconstruct import corrected


def test_each_step_names_functions_that_are_there_and_in_the_order_in_which_they_are_called():
    told = corrected.__doc__ or ""
    numbers = [int(number) for number in re.findall(r"^(\d)\. ", told, re.MULTILINE)]
    assert numbers == list(range(1, 9))
    steps = re.split(r"^\d\. ", told, flags=re.MULTILINE)[1:]
    firsts = [re.match(r"``(\w+)\.(\w+)``", step) for step in steps]
    body = inspect.getsource(corrected)
    places = []
    for first in firsts:
        assert first is not None
        module = importlib.import_module(f"chameleon_usage.reconstruct.{first[1]}")
        assert callable(getattr(module, first[2]))
        places.append(body.index(f"{first[1]}.{first[2]}("))
    assert places == sorted(places)
    for module_name, function in re.findall(r"``(\w+)\.([a-z_]+)``", told):
        module = importlib.import_module(f"chameleon_usage.reconstruct.{module_name}")
        assert callable(getattr(module, function))
