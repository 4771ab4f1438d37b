"""Making the topics."""

from confluent_kafka import Consumer, TopicPartition

from tests.conftest import topic_settings
from wire import topics


async def test_topics_that_are_made_can_be_used_at_once(kafka_address: str) -> None:
    """Each broker knows that it leads: none refuses a request that nobody tries again."""
    asker = Consumer({"bootstrap.servers": kafka_address, "group.id": "tests"})
    for _ in range(5):
        settings = topic_settings(kafka_address)
        counts = await topics.ensure(settings)
        assert counts == dict.fromkeys(topics.names(settings), 4)
        for name in counts:
            for partition in range(4):
                place = TopicPartition(name, partition)
                assert asker.get_watermark_offsets(place, timeout=20) == (0, 0)
    asker.close()
