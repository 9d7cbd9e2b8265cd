"""Evidence for people: the HTML page, its plain-text rendition, and the schemas of what is published.

Everything here is a pure function of a `ParityReport`; nothing here decides.
"""
