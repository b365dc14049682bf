"""CycleGAN on MindSpore: unpaired image-to-image translation that trains, resumes and converts."""

__version__ = "0.1.0"
