"""The notebook face: the only room that knows IPython."""
