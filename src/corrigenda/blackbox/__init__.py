"""Models behind an address: no weights, no logits, only answers.

client        any OpenAI-compatible endpoint as a model that generates
evaluation    such a model on cases, by free generation alone
memory        edits as texts, in the ledger
embedding     texts as vectors, without a model
scope         which remembered edits a request is about
calibration   the scope's threshold, chosen on Atlas
prompting     how they enter the prompt
requests      what a request asks, and the same request with the edits in it
proxy         the application in front of an endpoint; relay hands requests on
studio        its routes for edits; book is the memory in the page's forms
consolidate   from texts into weights
"""
