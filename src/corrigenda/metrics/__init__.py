"""Pure functions from what a model said to scores. One file per theme; nothing here runs a model.

    text            answers as text: normalisation, exact match, whole-word match, token F1
    teacher_forced  targets as tokens: mean log-probability, strict and ratio accuracy
    counterfact     ES, EM, PS, PM, NS, NM, Score S; the prompts of CounterFact+
    zsre            the accuracies of the zsRE tables
    portability     sub-scores and their mean
    ripple          RippleEdits: six criteria, tests behind conditions
    mquake          MQuAKE: edit-wise, instance-wise, multi-hop, hop-wise
    reversal        the new object asked back to the subject
    negation        negated statements and fact checks
    lingual         the matrix of languages, transfer
    longform        survey, inference labels, ROUGE, perplexity
    unstructured    BERTScore, recall of atomic facts
    kl              how far the next-token distribution moved, in nats
    sequential      retained, immediate, forgetting, capacity
    robustness      worst of K, hold rates, recovery by relearning
    conflict        contradicting edits, and round trips
    detection       AUROC and thresholds of detectors
    machiavelli     harm scores of agents in text games
    hearsay         how far a fact travels among agents
    tails           loops and contradictions after an answer
    fluency         n-gram entropy of long continuations
    consistency     TF-IDF similarity to reference texts
    cost            time, memory, size
    statistics      intervals, tests, agreement
    aggregate       prompts to records to one number with its interval
    observation     what one probe got, and the scores that follow

Two families are never mixed: `gen.*` scores free generation, `tf.*` is teacher-forced.
"""
