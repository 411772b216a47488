"""What ShardFormer replaces in a network."""
