"""The libraries that run a model's network: ``onnx`` on CPUs; ``timm`` (torch) on GPUs, and as the reference."""
