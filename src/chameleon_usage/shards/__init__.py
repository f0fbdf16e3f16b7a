"""Raw tables too large for memory: they are dealt into shards, and facts are made shard by shard.

``deal`` writes the rows of each table to the shard of the lease or the instance that they speak of;
``facts`` makes the facts of each shard, and cuts them into ranges of hosts.
"""
