"""Judge the judges: how extractors and measures answer to images that were spoiled on purpose."""
