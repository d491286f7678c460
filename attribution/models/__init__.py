"""A diffusion pipeline: checked, loaded, and asked for latents, conditions and predictions."""
