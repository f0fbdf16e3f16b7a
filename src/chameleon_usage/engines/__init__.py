"""Who does the work on the ranges of a site: this process, others beside it, or a cluster.

``home`` says what an engine is, and does the work in threads of this process; ``tasks`` in other
processes of this machine; ``slurm`` in job arrays; ``spark`` on the workers of a Spark cluster.
"""
