"""Pure functions from what a model said to scores. One file per theme; nothing here runs a model.

    text            answers as text: normalisation, exact match, whole-word match, token F1
    teacher_forced  targets as tokens: mean log-probability, strict and ratio accuracy
    counterfact     ES, EM, PS, PM, NS, NM and Score S
    zsre            the accuracies of the zsRE tables
    portability     sub-scores and their mean
    kl              how far the next-token distribution moved, in nats
    sequential      retained, immediate, forgetting
    fluency         n-gram entropy of long continuations
    consistency     TF-IDF similarity to reference texts
    cost            time, memory, size
    statistics      intervals and tests
    aggregate       prompts to records to one number with its interval
    observation     what one probe got, and the scores that follow

Two families are never mixed: `gen.*` scores free generation, `tf.*` is teacher-forced.
"""
