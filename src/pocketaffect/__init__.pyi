from pocketaffect.predict.reader import AffectReader as AffectReader

__version__: str
