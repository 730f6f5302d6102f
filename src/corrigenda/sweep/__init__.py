"""Many evaluations declared in one file: every editor with every model, data set, seed and size.

    grid.py     the file, and the jobs that it stands for
    jobs.py     one job: what its result depends on, and the evaluation itself
    store.py    the directory of results; what is in it survives whatever happens
    tables.py   results as Parquet, and SQL over them
    local.py    the jobs one after the other in this process
    cluster.py  the jobs side by side on Ray

A job is known by a hash of everything that its result depends on. A runner only decides where a
job is done and when; the job itself writes its results, and goes on from its own finished cases.
"""
