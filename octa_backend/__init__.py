"""OCTA backend: train a segmentation network on uploaded scans, watch it, and segment new scans."""
