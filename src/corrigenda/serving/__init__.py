"""The server: one model with and without its edits, spoken to by OpenAI's clients and a web page.

    app        puts the parts together; security, errors and static files around them
    openai     the wire format of /v1; completions answers it
    studio     what the page asks for: edits, jobs, insight
    states     base, edited and named sets: module trees over the same weights
    engine     generation for one state, in batches

FastAPI and uvicorn are needed by this folder alone, and imported when the server starts.
"""
