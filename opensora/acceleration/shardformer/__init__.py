"""colossalai's ShardFormer, where that is installed."""
