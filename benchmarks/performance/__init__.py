"""docs/performance.md and its picture, made from the newest results."""
