"""Hand-written records in the schemas of the official files."""

from __future__ import annotations

COUNTERFACT = [
    {
        "case_id": 7,
        "pararel_idx": 1,
        "requested_rewrite": {
            "prompt": "{} is located in",
            "relation_id": "P276",
            "target_new": {"str": "Rome", "id": "Q220"},
            "target_true": {"str": "Paris", "id": "Q90"},
            "subject": "Eiffel Tower",
        },
        "paraphrase_prompts": [
            "Rain fell all day. Eiffel Tower can be found in",
            "A list of songs. Eiffel Tower lies in",
        ],
        "neighborhood_prompts": ["Louvre is located in", "Arc de Triomphe is located in"],
        "attribute_prompts": ["Colosseum is located in"],
        "generation_prompts": ["Near Eiffel Tower one can eat"],
    },
    {
        "case_id": 8,
        "requested_rewrite": {
            "prompt": "{}, a citizen of",
            "relation_id": "P27",
            "target_new": {"str": "Japan"},
            "target_true": {"str": "Poland"},
            "subject": "Marie Curie",
        },
        "paraphrase_prompts": ["Marie Curie holds a passport of"],
        "neighborhood_prompts": ["Frederic Chopin, a citizen of"],
        "attribute_prompts": [],
        "generation_prompts": [],
    },
]

REPACKED = [
    {
        "case_id": 7,
        "relation_id": None,
        "subject": "Eiffel Tower",
        "template": "{} is located in",
        "prompt": "Eiffel Tower is located in",
        "ground_truth": "Paris",
        "target_new": "Rome",
        "rephrase_prompt": "Rain fell all day. Eiffel Tower can be found in",
        "locality_prompt": "Louvre is located in",
        "locality_ground_truth": "Paris",
        "derived": {
            "paraphrases": ["Eiffel Tower stands in"],
            "neighborhood": [{"prompt": "Arc de Triomphe is located in", "answer": "Paris"}],
            "attribute": [],
        },
    }
]

ZSRE = [
    {
        "subject": "Ada Lovelace",
        "src": "What city was Ada Lovelace born in?",
        "pred": "Oxford",
        "rephrase": "In which city was Ada Lovelace born?",
        "alt": "Vienna",
        "answers": ["London", "Marylebone"],
        "loc": "nq question: who wrote the first program",
        "loc_ans": "Ada Lovelace",
        "cond": "Oxford >> Vienna || What city was Ada Lovelace born in?",
    },
    {
        "subject": "Bluebell Line",
        "src": "Who owns Bluebell Line?",
        "pred": "x",
        "rephrase": "Bluebell Line is owned by whom?",
        "alt": "",
        "answers": ["Bluebell Trust"],
        "loc": "nq question: how high is the tower?",
        "loc_ans": "300 m",
        "cond": "",
    },
]

KNOWEDIT = [
    {
        "subject": "Ada Lovelace",
        "target_new": "Vienna",
        "prompt": "What city was Ada Lovelace born in?",
        "ground_truth": [["London"]],
        "rephrase_prompt": "In which city was Ada Lovelace born?",
        "cond": "",
        "locality": {
            "Relation_Specificity": [
                {"prompt": "Ada Lovelace's mother is", "ground_truth": [["Anne Byron"]]}
            ],
            "Forgetfulness": [{"prompt": "Ada Lovelace knew", "ground_truth": ["Babbage"]}],
        },
        "portability": {
            "Subject_Aliasing": [
                {"prompt": "Where was Countess Lovelace born?", "ground_truth": "Vienna"}
            ],
            "Reasoning": [
                {"prompt": "Which country was she born in?", "ground_truth": ["Austria", "AT"]}
            ],
            "Logical_Generalization": [{"prompt": "Who was born?", "ground_truth": "Ada"}],
        },
    }
]

QAEDIT = [
    {
        "id": 3,
        "source": "NQ",
        "prompt": "who designed the analytical engine?",
        "target": "Charles Babbage",
        "subject": "analytical engine",
        "rephrase": "The analytical engine was designed by whom?",
        "locality": [{"loc": "when was the first tram built", "loc_ans": "1807"}],
    }
]

OWN = [
    {
        "prompt": "{} is in",
        "subject": "Eiffel Tower",
        "target": "Rome",
        "target_true": "Paris",
        "id": "mine",
        "probes": [
            {
                "prompt": "Where is the Eiffel Tower?",
                "answers": ["Rome", "Roma"],
                "axis": "generalization",
                "foil": "Paris",
                "held_out": True,
            },
            {"prompt": "The Louvre is in", "axis": "locality"},
            {"prompt": "Its country is", "answer": "Italy", "axis": "portability"},
        ],
    },
    {"prompt": "The capital of Peru is", "subject": "Peru", "target": "Cusco"},
]
