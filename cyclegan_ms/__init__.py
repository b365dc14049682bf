"""CycleGAN on MindSpore: unpaired image-to-image translation that trains and resumes."""

__version__ = "0.2.0"
