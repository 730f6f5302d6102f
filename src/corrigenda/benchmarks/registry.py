"""The data sets by name: what each asks, under which licence, who made it, and where it is.

Nothing here is downloaded, and nothing is imported until a data set is loaded. docs/benchmarks.md
is written from this table.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

__all__ = ["BENCHMARKS", "Benchmark"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set: where its official files are, under which licence, and who made it.

    title    what it asks, in a line.
    source   where to get the official file.
    files    names, without suffix, under which it is looked for, the first that is there; "folder/"
             in front where a name alone says too little, "*" for several files read in order.
    module   the file here that turns records into cases.
    options  what tells variants over the same files apart ("target_source").
    edits    the kind of edit that its cases ask for.
    caveats  what to know before reading its numbers.
    """

    name: str
    title: str
    licence: str
    citation: str
    source: str
    files: tuple[str, ...] = ()
    module: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    edits: str = "Rewrite"
    caveats: str = ""

    def loader(self) -> ModuleType:
        """The module that reads its records."""
        return importlib.import_module(f".{self.module}", __package__)


_OURS = ("as this package; facts as the Atlas card says", "this package", "part of the package")

_ZSRE = "https://rome.baulab.info/data/dsets/zsre_mend_eval.json"
_ZSRE_CITATION = "Levy et al. 2017 (1706.04115); Mitchell et al. 2022 (2110.11309)"
_ZSRE_CAVEAT = (
    "Three edit targets circulate (alt, answers, a model's own); never compare across them. The "
    "unrelated question's gold answer is missed by weak models, so look at preservation."
)
_KNOWEDIT = "Zhang et al. 2024 (2401.01286)"
_KNOWEDIT_HUB = "of the data set zjunlp/KnowEdit on the Hugging Face hub"
_YAO = "Yao et al. 2023 (2305.13172)"
_EASYEDIT = "of the data archive that https://github.com/zjunlp/EasyEdit links to"
_RIPPLE = "https://github.com/edenbiran/RippleEdits (data/benchmark)"
_RIPPLE_CAVEAT = (
    "A test counts where the unedited model meets its conditions; the share that was executed is "
    "reported (gen.tests.executed). The reference code matches against the prompt too, and wants "
    "every object of several; the paper wants at least one, as here. Of counterfactual edits the "
    "paper keeps those whose old fact the model knows: --known-only."
)
_MQUAKE = "https://github.com/princeton-nlp/MQuAKE (datasets)"
_MQUAKE_CAVEAT = (
    "Any of three questions counts (gen.tests:multi_hop); the stricter gen.tests.all:multi_hop "
    "wants all of them. The original CF-3k has edits that contradict each other."
)
_REMASTERED = (
    "https://github.com/henryzhongsc/MQuAKE-Remastered, or the data set of that name on the "
    "Hugging Face hub"
)
_AKEW = "https://github.com/bobxwu/AKEW (datasets)"
_AKEW_CAVEAT = (
    "The edit is a paragraph, so its own prompt is judged by overlap, not by gen.efficacy."
)
_LEME = "Rosati et al. 2024 (2402.09394)"
_LEME_SOURCE = "https://github.com/domenicrosati/longform-evaluation-model-editing"
_LEME_CAVEAT = "The passages are kept for long-form metrics; they feed no gen.* score."
_PITFALLS = "Li et al. 2024 (2310.02129)"
_PITFALLS_SOURCE = "https://github.com/zjunlp/PitfallsKnowledgeEditing (data/GPT2-XL, data/GPT-J)"
_CONFLICT_CAVEAT = (
    "Two edits, one on top of the other. The official files differ by model; the prompt variants "
    "(conflict_prompts.json) are used if they lie beside the file."
)
_ROUND_CAVEAT = (
    "An edit and its reversal by editing, not by undo. The other true objects are kept for IR, FR "
    "and D; round_prompts.json is used if it lies beside the file."
)
_ECBD = "Onoe et al. 2022, 2023 (2305.01651)"
_ECBD_SOURCE = "https://github.com/yasumasaonoe/entity_knowledge_propagation (data/ecbd)"
_ECBD_CAVEAT = (
    "The paper's measure is the perplexity of a masked span; a probe asks for it from the words on "
    "its left, and spans at the beginning of a sentence are left out."
)
_RIGHTS_UNKNOWN = "none stated"


def _ripple(subset: str, title: str) -> Benchmark:
    return Benchmark(
        f"ripple_{subset}",
        f"six kinds of consequences of {title}",
        "MIT",
        "Cohen et al. 2023 (2307.12976)",
        _RIPPLE,
        (
            f"ripple_{subset}",
            f"ripple_edits/{subset}",
            f"RippleEdits/{subset}",
            f"RippleEdits/data/benchmark/{subset}",
        ),
        "ripple_edits",
        caveats=_RIPPLE_CAVEAT,
    )


def _akew(part: str, file: str, form: str) -> Benchmark:
    facts = form == "structured"
    return Benchmark(
        f"akew_{part}{'_facts' if facts else ''}",
        f"the edits of {file} as {'single facts' if facts else 'paragraphs that state them'}",
        "not recorded; see the repository",
        "Wu et al. 2024 (2402.18909)",
        f"{file}.json of {_AKEW}",
        (f"akew_{part}", f"akew/{file}", f"AKEW/{file}", f"AKEW/datasets/{file}"),
        "akew",
        {"form": form},
        caveats="" if facts else _AKEW_CAVEAT,
    )


def _conflict(kind: str, title: str) -> Benchmark:
    return Benchmark(
        f"conflictedit_{kind}",
        title,
        "MIT",
        _PITFALLS,
        _PITFALLS_SOURCE,
        (
            f"conflictedit_{kind}",
            f"conflictedit/{kind}_edit",
            f"PitfallsKnowledgeEditing/data/GPT2-XL/{kind}_edit",
            f"PitfallsKnowledgeEditing/data/GPT-J/{kind}_edit",
        ),
        "conflictedit",
        caveats=_CONFLICT_CAVEAT,
    )


def _round(level: str) -> Benchmark:
    return Benchmark(
        f"roundedit_{level}",
        f"an edit and its reversal on facts with several objects, {level}",
        "MIT",
        _PITFALLS,
        _PITFALLS_SOURCE,
        (
            f"roundedit_{level}",
            f"roundedit/{level}",
            f"PitfallsKnowledgeEditing/data/GPT2-XL/{level}",
            f"PitfallsKnowledgeEditing/data/GPT-J/{level}",
        ),
        "roundedit",
        caveats=_ROUND_CAVEAT,
    )


def _ecbd(
    name: str,
    title: str,
    *files: str,
    source: str = _ECBD_SOURCE,
    axis: str = "portability",
    caveats: str = _ECBD_CAVEAT,
) -> Benchmark:
    options = {"axis": axis}
    return Benchmark(
        name, title, _RIGHTS_UNKNOWN, _ECBD, source, files, "ecbd", options, caveats=caveats
    )


def _personality(trait: str | None) -> Benchmark:
    return Benchmark(
        "personality_edit" + (f"_{trait}" if trait else ""),
        f"opinions on a topic voiced with {trait or 'the trait that the record names'}",
        "MIT (EasyEdit)",
        "Mao et al. 2023 (2310.02168)",
        "data/{train,dev,test}.json of PersonalityEdit, which https://github.com/zjunlp/EasyEdit "
        "links to",
        ("personality_edit", "personality_edit/test", "PersonalityEdit/test"),
        "personality_edit",
        {"trait": trait} if trait else {},
        "Contrast",
        "Judged by a classifier of traits; tf.* compares the wanted opinion with another trait's.",
    )


BENCHMARKS: Mapping[str, Benchmark] = {
    one.name: one
    for one in (
        Benchmark("atlas", "edits of the embedded world, with all their consequences", *_OURS),
        Benchmark(
            "atlas_long", "edits of the embedded world towards objects of several words", *_OURS
        ),
        Benchmark(
            "atlas_ripple",
            "the same edits with every fact that must follow, by kind and hops, or must stay",
            _OURS[0],
            "this package; in the manner of Cohen et al. 2023 (2307.12976)",
            _OURS[2],
        ),
        Benchmark(
            "atlas_lingual",
            "edits in one of four languages, asked in all of them; for the model atlas-lingual",
            "as this package; facts as the Atlas card says, names partly from Wikidata (CC0)",
            "this package; names after Fierro and Søgaard 2022 (2203.11552)",
            _OURS[2],
        ),
        Benchmark(
            "census",
            "edits of a larger world of invented people, for sequences of ten thousand",
            "as this package",
            "this package",
            _OURS[2],
        ),
        Benchmark(
            "counterfact",
            "counterfactual edits with paraphrases and neighbourhoods",
            "MIT",
            "Meng et al. 2022 (2202.05262)",
            "https://rome.baulab.info/data/dsets/counterfact.json",
            ("counterfact",),
            "counterfact",
            caveats="The target is false and often of the wrong sort; paraphrases carry unrelated "
            "text in front. NS of the unedited model is no 100.",
        ),
        Benchmark(
            "counterfact_plus",
            "CounterFact with the edited sentence in front of every neighbour (CounterFact+)",
            "MIT",
            "Hoelscher-Obermaier et al. 2023 (2305.17553)",
            "built from https://rome.baulab.info/data/dsets/counterfact.json",
            ("counterfact", "counterfact/counterfact"),
            "counterfact_plus",
            caveats="The published neighbourhood divergence is nats divided by the size of the "
            "vocabulary; tf.KL+ here is in nats.",
        ),
        Benchmark(
            "zsre",
            "question edits towards a false answer (alt)",
            "MIT (MEND's selection)",
            _ZSRE_CITATION,
            _ZSRE,
            ("zsre", "zsre_mend_eval"),
            "zsre",
            {"target_source": "alt"},
            caveats=_ZSRE_CAVEAT,
        ),
        Benchmark(
            "zsre_answers",
            "the same questions towards the true answer (answers)",
            "MIT (MEND's selection)",
            _ZSRE_CITATION,
            _ZSRE,
            ("zsre", "zsre_mend_eval"),
            "zsre",
            {"target_source": "answers"},
            caveats=_ZSRE_CAVEAT,
        ),
        Benchmark(
            "knowedit_wiki_recent",
            "facts that came after training, with portability and same-subject locality",
            "MIT",
            _KNOWEDIT,
            f"benchmark/wiki_recent/recent_test.json {_KNOWEDIT_HUB}",
            ("knowedit_wiki_recent", "recent_test", "wiki_recent/recent_test"),
            "knowedit",
            {"source": "knowedit_wiki_recent"},
            caveats="Made from RippleEdits, without its condition queries.",
        ),
        Benchmark(
            "knowedit_wiki_counterfact",
            "counterfactual edits of popular entities, with portability and locality",
            "MIT",
            _KNOWEDIT,
            f"benchmark/wiki_counterfact/test_cf.json {_KNOWEDIT_HUB}",
            ("knowedit_wiki_counterfact", "test_cf", "wiki_counterfact/test_cf"),
            "knowedit",
            {"source": "knowedit_wiki_counterfact"},
            caveats="Not CounterFact. Made from RippleEdits, without its condition queries.",
        ),
        Benchmark(
            "knowedit_zsre",
            "question edits with portability and same-subject locality",
            "MIT",
            f"{_YAO}; {_KNOWEDIT}",
            f"benchmark/ZsRE/ZsRE-test-all.json {_KNOWEDIT_HUB}",
            ("knowedit_zsre", "ZsRE-test-all", "ZsRE/ZsRE-test-all"),
            "knowedit",
            {"source": "knowedit_zsre"},
        ),
        Benchmark(
            "knowedit_wikibio",
            "a wrong sentence in a generated biography, to be put right",
            "MIT",
            f"Hartvigsen et al. 2023 (2211.11031); {_KNOWEDIT}",
            f"benchmark/WikiBio/wikibio-test-all.json {_KNOWEDIT_HUB}",
            ("knowedit_wikibio", "wikibio-test-all", "WikiBio/wikibio-test-all"),
            "wikibio",
            caveats="The target is a sentence: judged by overlap and perplexity.",
        ),
        Benchmark(
            "knowedit_convsent",
            "a conversation's sentiment on a topic, towards the positive",
            "MIT",
            f"Mitchell et al. 2022 (2206.06520); {_KNOWEDIT}",
            f"benchmark/Convsent/blender_test.json {_KNOWEDIT_HUB}",
            ("knowedit_convsent", "blender_test", "Convsent/blender_test"),
            "convsent",
            {"toward": "pos"},
            "Contrast",
            "The published protocol draws the direction at random; here it is fixed. Judged by a "
            "sentiment classifier.",
        ),
        Benchmark(
            "knowedit_sanitation",
            "answers that a model should refuse to give, and others that it should keep",
            "MIT",
            f"Ishibashi and Shimodaira 2023 (2309.11852); {_KNOWEDIT}",
            f"benchmark/trivia/trivia_qa_train.json {_KNOWEDIT_HUB}",
            ("knowedit_sanitation", "trivia_qa_train", "trivia/trivia_qa_train"),
            "sanitation",
            caveats="Success is the phrase of refusal, and the same phrase for all questions; "
            "whether the answer can still be drawn out is not asked.",
        ),
        Benchmark(
            "portability_one_hop",
            "edits of zsRE and CounterFact with a question one known fact further",
            "MIT (EasyEdit)",
            _YAO,
            f"portability/One Hop {_EASYEDIT}",
            ("*_portability_gpt4", "portability/One Hop/*_portability_gpt4"),
            "portability",
            caveats="Written by GPT-4; whether the model knows the second fact is not checked.",
        ),
        Benchmark(
            "portability_alias",
            "edits of zsRE and CounterFact asked of another name of the subject",
            "MIT (EasyEdit)",
            _YAO,
            f"portability/Subject Replace {_EASYEDIT}",
            ("*_subject_replace", "portability/Subject Replace/*_subject_replace"),
            "portability",
        ),
        Benchmark(
            "portability_inverse",
            "edits of zsRE asked in the reverse direction",
            "MIT (EasyEdit)",
            _YAO,
            f"portability/Inverse Relation {_EASYEDIT}",
            ("zsre_inverse_relation", "portability/Inverse Relation/zsre_inverse_relation"),
            "portability",
        ),
        _ripple("recent", "facts that came after training"),
        _ripple("random", "counterfactual edits of random entities"),
        _ripple("popular", "counterfactual edits of popular entities"),
        Benchmark(
            "mquake_cf_3k",
            "multi-hop questions over one to four edited facts (MQuAKE-CF-3k-v2)",
            _RIGHTS_UNKNOWN,
            "Zhong et al. 2023 (2305.14795)",
            _MQUAKE,
            ("MQuAKE-CF-3k-v2", "mquake/MQuAKE-CF-3k-v2", "MQuAKE/datasets/MQuAKE-CF-3k-v2"),
            "mquake",
            caveats=_MQUAKE_CAVEAT,
        ),
        Benchmark(
            "mquake_t",
            "multi-hop questions over facts that changed with time (MQuAKE-T)",
            _RIGHTS_UNKNOWN,
            "Zhong et al. 2023 (2305.14795)",
            _MQUAKE,
            ("MQuAKE-T", "mquake/MQuAKE-T", "MQuAKE/datasets/MQuAKE-T"),
            "mquake",
            caveats=_MQUAKE_CAVEAT,
        ),
        Benchmark(
            "mquake_remastered",
            "MQuAKE-CF-3k with its errors put right",
            "CC BY 4.0",
            "Zhong et al. 2025 (MQuAKE-Remastered)",
            _REMASTERED,
            (
                "MQuAKE-Remastered-CF-3k",
                "mquake/MQuAKE-Remastered-CF-3k",
                "mquake_remastered/CF3k*",
            ),
            "mquake",
            caveats="Which cases are edited depends on how many are; edits that contaminate "
            "another case are to be masked, which is not done here.",
        ),
        Benchmark(
            "mquake_remastered_t",
            "MQuAKE-T with its errors put right",
            "CC BY 4.0",
            "Zhong et al. 2025 (MQuAKE-Remastered)",
            _REMASTERED,
            ("MQuAKE-Remastered-T", "mquake/MQuAKE-Remastered-T", "mquake_remastered/T-*"),
            "mquake",
        ),
        Benchmark(
            "qaedit",
            "edits from question-answering sets, for evaluation in the wild",
            "Apache-2.0",
            "Yang et al. 2025 (2502.11177)",
            "data/QAEdit.json of https://github.com/WanliYoung/Revisit-Editing-Evaluation",
            ("qaedit", "QAEdit", "QAEdit_inter_1k"),
            "qaedit",
            caveats="Targets are true answers, so there is no old one to compare with.",
        ),
        Benchmark(
            "unke",
            "paragraphs as answers, with questions about their sentences (UnKEBench)",
            _RIGHTS_UNKNOWN,
            "Deng et al. 2024 (2405.15349)",
            "data/final_data_v3.json of https://github.com/TrustedLLM/UnKE",
            ("unke", "final_data_v3", "final_data_v2"),
            "unke",
            caveats="No subject is named: the whole question stands for it. Judged by overlap. "
            "Versions 2 and 3 of the file differ.",
        ),
        *(
            _akew(part, file, form)
            for form in ("unstructured", "structured")
            for part, file in (
                ("counterfact", "CounterFact"),
                ("mquake", "MQuAKE-CF"),
                ("wikiupdate", "WikiUpdate"),
            )
        ),
        Benchmark(
            "leme_counterfact",
            "CounterFact with essays to be written about the subject and a related entity",
            "MIT",
            _LEME,
            _LEME_SOURCE,
            ("leme_counterfact", "counterfact_with_coupled_entities"),
            "leme",
            caveats=_LEME_CAVEAT,
        ),
        Benchmark(
            "leme_zsre",
            "zsRE with essays to be written about the subject and a related entity",
            "MIT",
            _LEME,
            _LEME_SOURCE,
            ("leme_zsre", "zsre_mend_eval_with_coupled_entities"),
            "leme",
            caveats=_LEME_CAVEAT,
        ),
        Benchmark(
            "leme_annotations",
            "passages and claims with people's labels: supports, contradicts, neutral",
            "MIT",
            _LEME,
            f"results/annotations_dataset.csv of {_LEME_SOURCE}",
            ("leme_annotations", "annotations_dataset"),
            "leme_annotations",
            edits="Concept",
            caveats="No edits: for checking a judge of entailment against people.",
        ),
        Benchmark(
            "bizsre",
            "zsRE edited in English, asked in English and Chinese (Bi-ZsRE)",
            "not recorded; see the repository",
            "Wang et al. 2023 (2309.08952)",
            "bizsre_test.json, which https://github.com/krystalan/Bi_ZsRE links to",
            ("bizsre", "bizsre_test"),
            "bizsre",
            {"language": "en"},
            caveats="Machine-translated. Scores by language end in @en, @zh.",
        ),
        Benchmark(
            "bizsre_zh",
            "zsRE edited in Chinese, asked in English and Chinese",
            "not recorded; see the repository",
            "Wang et al. 2023 (2309.08952)",
            "bizsre_test.json, which https://github.com/krystalan/Bi_ZsRE links to",
            ("bizsre", "bizsre_test"),
            "bizsre",
            {"language": "zh"},
            caveats="Machine-translated; where no Chinese subject is named, the whole question "
            "stands for it.",
        ),
        Benchmark(
            "mzsre",
            "zsRE edited in English, asked in English and one of eleven languages (MzsRE)",
            "not recorded; see the repository",
            "Wang et al. 2023 (2312.13040)",
            "data/MzsRE of https://github.com/Vicky-Wil/ReMaKE",
            ("mzsre", "mzsre_test_duplicate_en*", "MzsRE/mzsre_test_duplicate_en*"),
            "bizsre",
            {"language": "en"},
            caveats="One file per language, each with all edits: a fact comes once per language.",
        ),
        Benchmark(
            "wikibigedit",
            "half a million changes of Wikidata in eight steps of time (WikiBigEdit)",
            "Apache-2.0 (code); see the data card",
            "Thede et al. 2025 (2503.05683)",
            "the data set lukasthede/WikiBigEdit on the Hugging Face hub",
            ("wikibigedit", "wiki_big_edit_*", "WikiBigEdit/wiki_big_edit_*"),
            "wikibigedit",
            caveats="In the order of time; multi-hop questions for two or three edits in a hundred.",
        ),
        _conflict("coverage", "a fact edited twice: the later edit should win"),
        _conflict("reverse", "two edits that contradict each other by an inverse relation"),
        _conflict("composite", "two edits that contradict each other by a rule over two facts"),
        _round("easy"),
        _round("hard"),
        _ecbd(
            "ecbd",
            "definitions of new entities, and sentences whose noun phrases follow (ECBD)",
            "all_ent_2020_2021_np_500samples",
        ),
        _ecbd(
            "ecbd_random",
            "the same with random spans",
            "all_ent_2020_2021_random_500samples",
        ),
        _ecbd(
            "ecbd_easy",
            "the same where the definition contains the answer",
            "all_ent_2020_2021_np_easy",
        ),
        _ecbd(
            "ecbd_random_easy",
            "random spans that the definition contains",
            "all_ent_2020_2021_random_easy",
        ),
        _ecbd(
            "ecbd_popular",
            "sentences about well-known entities, which should not change",
            "specificity_popular_20np_20random",
            "popular_20np_20random",
            axis="locality",
            caveats="The paper asks these sentences after edits of other entities; as cases of their "
            "own, the edit is a definition that the model knows.",
        ),
        _ecbd(
            "ecbd_2023",
            "entities of 2023 with generated continuations, for context distillation",
            "ecbd_2023_with_continuations",
            "ecbd_2023_augmented",
            source="data/ecbd/ecbd_2023_augmented.json of "
            "https://github.com/shankarp8/knowledge_distillation",
        ),
        Benchmark(
            "entity_inferences",
            "what follows from a new entity's definition, among candidates",
            _RIGHTS_UNKNOWN,
            "Onoe et al. 2023 (2305.01651)",
            "https://github.com/yasumasaonoe/entity_knowledge_propagation (data/entity_inferences)",
            ("entity_inferences", "entity_inferences/*_attribute_*"),
            "entity_inferences",
            caveats="The paper's measure is whether the right candidate is the likeliest; the "
            "candidates are in the case's meta.",
        ),
        _personality(None),
        *(_personality(t) for t in ("extraversion", "agreeableness", "neuroticism")),
        Benchmark(
            "safeedit",
            "a safe answer to an attack in place of an unsafe one",
            "CC BY-NC-SA 4.0; access on request",
            "Wang et al. 2024 (2403.14472)",
            "the data set zjunlp/SafeEdit on the Hugging Face hub",
            ("safeedit", "SafeEdit_test", "SafeEdit/SafeEdit_test"),
            "safeedit",
            edits="Contrast",
            caveats="Holds attacks and unsafe texts. Judged by a safety classifier; tf.* compares "
            "the safe answer with the unsafe one.",
        ),
        Benchmark(
            "safeedit_questions",
            "harmful questions by category, without attacks and answers",
            "MIT (EasyEdit)",
            "Wang et al. 2024 (2403.14472)",
            "drawn from detoxify_val.json of NLPCC 2024 in https://github.com/zjunlp/EasyEdit",
            ("safeedit_questions",),
            "safeedit_questions",
            edits="Concept",
            caveats="No edits: labelled texts for a concept or for probing.",
        ),
        Benchmark(
            "lre",
            "relations with templates, for linear relation decoding",
            "MIT",
            "Hernandez et al. 2024 (2308.09124)",
            "the files under data/ of https://github.com/evandez/relations",
            ("lre", "relations/data/*/*", "lre/*/*"),
            "lre",
            caveats="The target is the true object. The group `bias` records stereotypes, not facts.",
        ),
        Benchmark(
            "known_1000",
            "1,209 facts that GPT-2 XL answers, for causal tracing",
            "MIT",
            "Meng et al. 2022 (2202.05262)",
            "https://rome.baulab.info/data/dsets/known_1000.json",
            ("known_1000", "known_facts", "known_facts/known_facts"),
            "known_1000",
            caveats="The target is the true object. Known by GPT-2 XL, not by your model.",
        ),
        Benchmark(
            "truth_statements",
            "true and false statements, for truth directions and erasure",
            _RIGHTS_UNKNOWN,
            "Marks and Tegmark 2023 (2310.06824)",
            "the .csv files under datasets/ of https://github.com/saprmarks/geometry-of-truth",
            ("truth_statements", "geometry-of-truth/datasets/*"),
            "truth_statements",
            edits="Concept",
            caveats="No edits: one concept per file or subset.",
        ),
    )
}
"""Data sets by name."""
