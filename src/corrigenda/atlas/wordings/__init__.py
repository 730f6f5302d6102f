"""The wordings of the relations in other languages than English, one file each.

Every file has the same names: `WORDINGS` by relation, `MARKER` of new facts, and `NAMED`, how a
name in another language is told. English is in `templates.py`.
"""
