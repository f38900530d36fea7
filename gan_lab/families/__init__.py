"""One file per paper. The file name is the registry: ``family: wgan_gp`` is ``wgan_gp.py``, its class is ``FAMILY``."""
