"""One file per paper. ``family: wgan_gp`` loads ``wgan_gp.py``, whose class is ``FAMILY``."""
