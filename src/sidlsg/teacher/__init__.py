"""The pretrained Stable Diffusion that is distilled: its folder, noise schedule and text encoding."""
