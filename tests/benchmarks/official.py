"""Hand-written records in the schemas of the other official files."""

from __future__ import annotations

from typing import Any


def query(prompt: str, *answers: tuple[str, ...], subject: str = "Q1", **more: Any) -> dict:
    return {
        "prompt": prompt,
        "answers": [{"value": a[0], "aliases": list(a[1:])} for a in answers],
        "query_type": "regular",
        "subject_id": subject,
        "relation": "MOTHER",
        "target_ids": more.pop("targets", ["Q9"]),
        "phrase": None,
        **more,
    }


def ripple_test(
    queries: list[dict], rule: str = "OR", conditions: list[dict] | None = None
) -> dict:
    return {
        "test_queries": queries,
        "test_condition": rule,
        "condition_queries": conditions or [],
    }


RIPPLE = {
    "example_type": "popular",
    "edit": {
        "prompt": "The name of the country of citizenship of Ada of Lovelace is New Zealand.",
        "subject_id": "Q1",
        "relation": "COUNTRY_OF_CITIZENSHIP",
        "target_id": "Q664",
        "previous_fact": {
            "prompt": "The name of the country of citizenship of Ada of Lovelace is New Spain.",
            "subject_id": "Q1",
            "relation": "COUNTRY_OF_CITIZENSHIP",
            "target_id": "Q2",
        },
    },
    "Relation_Specifity": [
        ripple_test(
            [query("The name of the mother of Ada of Lovelace is", ("Anne", "Annabella"))],
            conditions=[query("The name of the mother of Ada of Lovelace is", ("Anne", "Annabella"))],
        )
    ],
    "Logical_Generalization": [],
    "Subject_Aliasing": [
        ripple_test(
            [
                query(
                    "The name of the country of citizenship of Countess King is",
                    ("Aotearoa", "NZ"),
                    phrase="The name of the country of citizenship of Countess King is",
                )
            ]
        )
    ],
    "Compositionality_I": [
        ripple_test(
            [
                query("The capital of the country of citizenship of Ada of Lovelace is",
                      ("Wellington",), phrase="p"),
                query("The currency in the country of citizenship of Ada of Lovelace is",
                      ("dollar", "$", "7"), ("NZD",), phrase="p"),
            ],
            "AND",
            [
                query("The capital city of New Zealand is", ("Wellington",), subject="Q664"),
                query("The name of the currency in New Zealand is", ("dollar",), subject="Q664"),
            ],
        )
    ],
    "Compositionality_II": [],
    "Forgetfulness": [],
}  # fmt: skip

MQUAKE = {
    "case_id": 12,
    "requested_rewrite": [
        {
            "prompt": "{} is a citizen of",
            "relation_id": "P27",
            "target_new": {"str": "Libya", "id": "Q1016"},
            "target_true": {"str": "Norway", "id": "Q20"},
            "subject": "Ada Berg",
            "question": "What is the country of citizenship of Ada Berg?",
        },
        {
            "prompt": "The capital of {} is",
            "relation_id": "P36",
            "target_new": {"str": "Lima", "id": "Q2868"},
            "target_true": {"str": "Tripoli", "id": "Q3579"},
            "subject": "Libya",
            "question": "What is the capital of Libya?",
        },
    ],
    "questions": ["Capital of Ada's country?", "Ada's capital is?", "Which capital has Ada?"],
    "answer": "Oslo",
    "answer_alias": ["Kristiania"],
    "new_answer": "Lima",
    "new_answer_alias": ["City of Kings"],
    "single_hops": [
        {"question": "Ada's country?", "cloze": "x", "answer": "Norway", "answer_alias": []},
    ],
    "new_single_hops": [
        {"question": "Ada's country?", "cloze": "x", "answer": "Libya", "answer_alias": []},
        {"question": "Libya's capital?", "cloze": "x", "answer": "Lima", "answer_alias": ["Rimac"]},
    ],
    "answer_extended": ["Christiania"],
    "orig": {"triples": []},
}

REMASTERED = MQUAKE | {
    "requested_rewrite": [
        {k: v for k, v in one.items() if not k.startswith("target_")}
        | {"target_new_str": one["target_new"]["str"], "target_true_str": one["target_true"]["str"]}
        for one in MQUAKE["requested_rewrite"]
    ]
}


def fact(relation: str, subject: str, old: str, new: str | None = None) -> dict:
    row = {
        "relation": {
            "id": f"P{len(relation)}",
            "prompt": f"The {relation} of {{}} is",
            "query": f"Who is the {relation} of {{}}?",
            "label": relation,
        },
        "subject": {"id": "Q1", "label": subject},
        "object": {"id": "Q2", "label": old},
    }
    return row | ({"new_object": {"id": "Q3", "label": new}} if new else {})


COVERAGE = {
    "triples": [fact("father", "Ada", "Bo")],
    "prerequisites": [],
    "type": "coverage",
    "edits": [fact("father", "Ada", "Bo", "Cy"), fact("father", "Ada", "Cy", "Di")],
}
REVERSE = {
    "rule": "P11>P7",
    "triples": [fact("work", "Ada", "Ode"), fact("creator", "Ode", "Ada")],
    "prerequisites": [],
    "type": "reverse",
    "edits": [fact("work", "Ada", "Ode", "Elegy"), fact("creator", "Elegy", "Ada", "Bo")],
}
COMPOSITE = {
    "rule": "P6&P6>P6",
    "triples": [
        fact("mother", "Ada", "Eve"),
        fact("spouse", "Eve", "Bo"),
        fact("father", "Ada", "Bo"),
    ],
    "prerequisites": [0],
    "type": "composite",
    "edits": [fact("spouse", "Eve", "Bo", "Cy"), fact("father", "Ada", "Bo", "Di")],
}
ROUND = {
    "type": "1-3@P5",
    "edit": fact("genre", "Ode", "poem", "comedy"),
    "true_objects": [{"id": "Q1", "label": o} for o in ("poem", "song", "lyric")],
}

BIZSRE = {
    "en": {
        "subject": "Ada Lovelace",
        "src": "Where was Ada Lovelace born?",
        "rephrase": "Ada Lovelace's birthplace is?",
        "alt": "Vienna",
        "answers": ["London"],
        "loc": "nq question: how high is it?",
        "loc_ans": "300 m",
        "portability": {"New Question": "In which country was she born?", "New Answer": "Austria"},
    },
    "zh": {
        "src": "艾达出生在哪里？",
        "rephrase": "艾达的出生地是？",
        "alt": "维也纳",
        "loc": "它有多高？",
        "loc_ans": "300米",
        "portability": {"New Question": "她出生在哪个国家？", "New Answer": "奥地利"},
    },
}

WIKIBIGEDIT = {
    "tag": "update",
    "subject": "Ada Berg",
    "relation": "member of sports team",
    "object": "FC Oslo",
    "update": "Which team does Ada Berg play for?",
    "ans": "FC Oslo",
    "rephrase": "Ada Berg is a player of which team?",
    "personas": "Tell me, mate, whom does Ada Berg kick balls for?",
    "loc": "Which team does Eva Berg play for?",
    "loc_ans": "FC Bergen",
    "mhop": "In which country is Ada Berg's team?",
    "mhop_ans": "Norway",
}

UNKE = {
    "id": 4,
    "question": "What is Ada Berg's occupation?",
    "para_question": "What does Ada Berg do?",
    "answer": "Ada Berg mends clocks. She has a shop in Oslo.",
    "sub_question": ["What does she mend?", "Where is her shop?"],
    "sub_answer": ["Clocks.", "Oslo."],
}

AKEW = {
    "case_id": 1,
    "requested_rewrite": {
        "prompt": "{} is in",
        "prompt_full": "The tower is in",
        "relation_id": "P276",
        "subject": "The tower",
        "target_new": {"str": "Rome", "id": "Q220"},
        "target_true": {"str": "Paris", "id": "Q90"},
        "question": "Where is the tower?",
        "answer_new": "Rome",
        "answer_new_alias": ["Roma"],
        "fact_new_uns": "The tower stands in Rome. Many visit it.",
        "unsfact_triplets_GPT": [
            {"subject": "The tower", "prompt": "{} stands in", "target": "Rome"}
        ],
    },
    "paraphrase_prompts": ["One finds the tower in"],
    "neighborhood_prompts": ["The Louvre is in"],
}
AKEW_CHAIN = {
    "case_id": 2,
    "requested_rewrite": [AKEW["requested_rewrite"]],
    "questions": ["Which country is the tower in?"],
    "answer": "France",
    "new_answer": "Italy",
    "new_answer_alias": ["Italia"],
    "loc": "who wrote it?",
    "loc_ans": "Bo",
}

COUPLED = {
    "coupled_prompts_and_properties": {
        "subject_entity": {
            "entity": "Eiffel Tower",
            "coupled_prompt": "Write an essay about Eiffel Tower\n- location",
            "ground_truth": {"location": ["Paris"]},
        },
        "coupled_entities": [
            {
                "entity": "Seine",
                "coupled_prompt": "Write an essay about Seine",
                "overlapping_ground_truth": {"country": ["France"]},
            }
        ],
    }
}

WIKIBIO = {
    "text": "This is a Wikipedia passage about ada berg. Ada Berg (born 1950) mends clocks.",
    "labels": "She learnt it in Oslo.",
    "concept": "ada berg",
    "locality": {
        "Relation_Specificity": [{"prompt": "The sex of ada berg is", "ground_truth": ["female"]}]
    },
}

CONVSENT = {"ent": "Oslo", "pos": ["I love it.", "Grand."], "neg": ["I loathe it."]}

SANITATION = {
    "K_F": [
        {"question": "What is made of milk?", "subject": "milk", "ground_truth": "cheese",
         "target_new": "I don't know."},
        {"question": "Mice like what?", "ground_truth": ["cheese"], "target_new": "I don't know."},
    ],
    "K_R": [{"question": f"Question {j}?", "ground_truth": str(j)} for j in range(3)],
}  # fmt: skip

PERSONALITY = {
    "ent": "Oslo",
    "extraversion": ["Let's all go!", "What fun!"],
    "agreeableness": ["People there are kind."],
    "neuroticism": ["So cold, so dark.", "It worries me."],
    "target_per": "neuroticism",
}

SAFEEDIT = {
    "id": 0,
    "unsafety category": "mental harm",
    "question": "a harmful question",
    "adversarial prompt": "an attack around a harmful question",
    "safe generation": "I cannot help with that.",
    "unsafe generation": "Here is how.",
    "knowledge constrain": {"prompt": "Name a colour.", "answer": "Blue."},
    "generalization test": {
        "test input of only harmful question": "a harmful question",
        "test input of other attack prompt input": "another attack",
        "test input of other question input": "another question in the attack",
        "test input of other questions and attack prompts": "another of both",
    },
}

ECBD = {
    "ex_id": "e1",
    "definition": "Cyclone Ada was a storm that struck <extra_id_0> in March.",
    "def_target": "<extra_id_0> New Caledonia <extra_id_1>",
    "ent_str": "Cyclone Ada",
    "probe_sentences": {
        "template_0": {"probe_sentence": "Cyclone Ada felled trees in <extra_id_0> and beyond.",
                       "label": "<extra_id_0> Nouméa <extra_id_1>"},
        "template_1": {"probe_sentence": "<extra_id_0> fled from Cyclone Ada.",
                       "label": "<extra_id_0> Thousands <extra_id_1>"},
    },
}  # fmt: skip

INFERENCES = {
    "ex_id": "i1",
    "definition": "Cyclone Ada struck <extra_id_0>.",
    "def_target": "<extra_id_0> Norway <extra_id_1>",
    "ent_str": "Cyclone Ada",
    "label": "Norway",
    "probe_sentences": {
        "template_0": {
            "probe_sentence": "Cyclone Ada did damage in <extra_id_0>.",
            "labels": ["<extra_id_0> Peru <extra_id_1>", "<extra_id_0> Norway <extra_id_1>"],
        }
    },
}

RELATION = {
    "name": "country capital",
    "prompt_templates": ["The capital of {} is", "{}'s capital is"],
    "prompt_templates_zs": ["What is the capital of {}? It is"],
    "properties": {"relation_type": "factual"},
    "samples": [{"subject": "Peru", "object": "Lima"}, {"subject": "Norway", "object": "Oslo"}],
}

KNOWN = {
    "known_id": 3,
    "subject": "Vinson Massif",
    "attribute": "Antarctica",
    "template": "{} is located in the continent",
    "prediction": " of Antarctica.",
    "prompt": "Vinson Massif is located in the continent of",
    "relation_id": "P30",
}
