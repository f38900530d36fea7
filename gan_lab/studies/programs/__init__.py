"""Programs of texts, as families that only a study trains: ``family=gan_lab.studies.programs.<name>``."""
