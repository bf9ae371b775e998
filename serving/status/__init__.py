"""Where data is on its way, and how well: feed, topic, workers, Redis, reader, as one chain."""
