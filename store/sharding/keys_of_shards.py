"""The channels of tasks on several shards: parts of a cluster have hash tags of their own, so names differ by shard."""

from collections.abc import Mapping

from taskmill.store.formats.keys import Keys
from taskmill.store.shards import DEFAULT_SHARD, shard_of_id

__all__ = ["KeysOfShards"]


class KeysOfShards(Keys):
    """The keys of the default shard, and of each task's own shard what is also the name of a channel."""

    def __init__(self, by_shard: Mapping[str, Keys]) -> None:
        default = by_shard[DEFAULT_SHARD]
        super().__init__(default.prefix, in_cluster=default.in_cluster, part=default.part)
        self._by_shard = by_shard

    def record(self, task_id: str) -> str:
        """See `Keys.record`."""
        return self._of(task_id).record(task_id)

    def output(self, task_id: str) -> str:
        """See `Keys.output`."""
        return self._of(task_id).output(task_id)

    def task_of(self, record_key: str) -> str:
        """See `Keys.task_of`."""
        found = (keys.task_of(record_key) for keys in self._by_shard.values())
        return next((task_id for task_id in found if task_id != record_key), record_key)

    def _of(self, task_id: str) -> Keys:
        return self._by_shard.get(shard_of_id(task_id)) or self._by_shard[DEFAULT_SHARD]
