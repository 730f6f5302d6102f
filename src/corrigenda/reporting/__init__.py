"""Reports side by side, for readers: boards of methods on the same edits, with tests and plots.

boards.py    which reports belong together; seeds of one method as one row
paired.py    differences between methods on the same records
page.py      the HTML page
sections.py  what stands on it
plots.py     its pictures, as SVG
html.py      tables, details and text that is safe to show
style.py     how it looks
tables.py    the same boards as Markdown and LaTeX
lifelong.py  curves of long sequences, from their own files
"""
