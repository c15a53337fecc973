"""From a checkpoint to a model directory: read it, export it, quantise it, and compare every variant with timm itself."""
