"""What installing the checkout adds to installing the wheel: the command `chameleon-twin`."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Twin(BuildHookInterface):  # type: ignore[type-arg]
    """Gives the simulator's command to whoever has its source, and to nobody else."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the command to an editable installation."""
        if version == "editable":
            build_data["shared_scripts"]["src/chameleon_twin/__main__.py"] = "chameleon-twin"
