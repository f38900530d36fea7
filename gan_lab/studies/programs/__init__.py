"""Tutorial programs as families for studies: ``family=gan_lab.studies.programs.<name>``."""
