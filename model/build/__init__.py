"""From a checkpoint to a model directory: read it, export it, quantise it, and compare it with timm itself."""
