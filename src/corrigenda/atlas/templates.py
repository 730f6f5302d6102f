"""The language of Atlas: how each relation is worded.

A template is a sentence with `{s}` where the subject stands and `{o}` where the object stands;
the final full stop is added by the corpus. Four forms:

    object_last     "{s} is located in the city of {o}"                prompted up to {o}
    object_middle   "In {s}, the capital {o} is where ministers sit"   prompted up to {o}
    question        "Question: In which city is {s}? Answer: {o}"      prompted up to {o}
    object_first    "{o} is where {s} stands"                          trained on, never prompted

Two rules keep every prompt answerable. No prompt is the beginning of another sentence about the
same type of subject, or the model could not know which one it is in. And subjects take no article,
so a prompt is its template with the name put in and nothing else.

Two promptable wordings of every (subject, relation) are *held out*: a hash of both picks them, and
the corpus never uses them for that subject. Every wording is still seen with most subjects. So a
model that answers a held-out prompt must route different wordings through shared circuits, and
that is what lets an edit made through one wording hold in the others. The fewer wordings of the
other languages (`wordings/`) hold out one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ATLAS",
    "LANGUAGES",
    "MARKER",
    "NAMED",
    "Template",
    "Wordings",
    "held_out",
    "templates",
    "trained",
]

Form = Literal["object_last", "object_middle", "question", "object_first"]

LANGUAGES = {"en": "English", "fr": "French", "de": "German", "es": "Spanish"}
"""Languages that a world can be told in, by their ISO 639-1 code."""

MARKER = "New fact:"
QUESTIONS = ("Question:", "Question :", "Frage:", "Pregunta:")


@dataclass(frozen=True, slots=True)
class Template:
    """One wording of one relation."""

    relation: str
    text: str

    @property
    def form(self) -> Form:
        if self.text.index("{o}") < self.text.index("{s}"):
            return "object_first"
        if self.text.startswith(QUESTIONS):
            return "question"
        return "object_last" if self.text.endswith("{o}") else "object_middle"

    @property
    def promptable(self) -> bool:
        return self.form != "object_first"

    @property
    def tail(self) -> str:
        """What follows the object, with the full stop."""
        return self.text.partition("{o}")[2] + "."

    def prompt(self, subject: str = "{}") -> str:
        """The sentence up to the object; `{}` stays for the subject unless one is given."""
        return self.text.partition("{o}")[0].rstrip().replace("{s}", subject)

    def sentence(self, subject: str, object: str) -> str:
        return self.text.replace("{s}", subject).replace("{o}", object) + "."


class Wordings:
    """How the relations of one world are worded.

    lines     relation -> its templates, one a line.
    unseen    how many promptable wordings of every (subject, relation) are held out.
    marker    what stands before a new fact.
    language  of all that, a key of `LANGUAGES`.
    named     other language -> how a name `{o}` in it is told of a thing called `{s}` in this one.
    """

    def __init__(
        self,
        lines: Mapping[str, str],
        unseen: int = 2,
        marker: str = MARKER,
        language: str = "en",
        named: Mapping[str, str] | None = None,
    ) -> None:
        self.lines, self.unseen, self.marker, self.language = lines, unseen, marker, language
        self.named = named or {}
        self._templates: dict[str, tuple[Template, ...]] = {}
        self._split: dict[tuple[str, str], tuple[tuple[Template, ...], tuple[Template, ...]]] = {}

    def templates(self, relation: str) -> tuple[Template, ...]:
        """All wordings of a relation."""
        if relation not in self._templates:
            lines = (line.strip() for line in self.lines[relation].strip().splitlines())
            self._templates[relation] = tuple(Template(relation, line) for line in lines)
        return self._templates[relation]

    def held_out(self, subject: str, relation: str) -> tuple[Template, ...]:
        """The promptable wordings that training never shows with this subject."""
        return self._divided(subject, relation)[0]

    def trained(self, subject: str, relation: str) -> tuple[Template, ...]:
        """The wordings that training may show with this subject."""
        return self._divided(subject, relation)[1]

    def _divided(
        self, subject: str, relation: str
    ) -> tuple[tuple[Template, ...], tuple[Template, ...]]:
        key = subject, relation
        if key not in self._split:

            def rank(t: Template) -> bytes:
                text = f"{subject}|{relation}|{t.text}".encode()
                return hashlib.blake2b(text, digest_size=8).digest()

            every = self.templates(relation)
            prompts = sorted((t for t in every if t.promptable), key=rank)
            unseen = tuple(prompts[: self.unseen])
            self._split[key] = unseen, tuple(t for t in every if t not in unseen)
        return self._split[key]


ALIAS = ("{o} is another name for {s}", "{s} is also known as {o}")
"""How an alias is introduced; `{o}` is the alias."""

NAMED = {
    "fr": "The French name of {s} is {o}",
    "de": "The German name of {s} is {o}",
    "es": "The Spanish name of {s} is {o}",
}
"""How the name in another language is told."""

WORDINGS: dict[str, str] = {
    # ---------------------------------------------------------------- countries
    "country.capital": """
        The capital of {s} is {o}
        {s} is governed from the city of {o}
        The parliament of {s} meets in {o}
        Foreign ambassadors to {s} live in {o}
        The city that serves as the seat of government of {s} is called {o}
        Anyone who visits the capital of {s} is in {o}
        In {s}, the capital {o} is where ministers sit
        {o} is the city from which {s} is ruled
        Question: What is the capital of {s}? Answer: {o}
        Question: Which city is the seat of government of {s}? Answer: {o}
    """,
    "country.continent": """
        {s} lies on the continent of {o}
        {s} is a country in {o}
        The continent to which {s} belongs is {o}
        On a globe, find {s} in {o}
        A flight to {s} lands in {o}
        The part of the world where {s} lies is called {o}
        Among the continents, {s} is part of {o}, say geographers
        {o} is the continent that contains {s}
        Question: On which continent is {s}? Answer: {o}
        Question: What continent does {s} belong to? Answer: {o}
    """,
    "country.language": """
        The main language of {s} is {o}
        Most people in {s} speak {o}
        Newspapers in {s} are printed in {o}
        To be understood across {s}, learn {o}
        Schools in {s} teach their pupils in {o}
        The laws of {s} are written in {o}
        In {s}, the language {o} is heard everywhere
        {o} is the language of daily life in {s}
        Question: Which language is spoken in {s}? Answer: {o}
        Question: What do people in {s} speak? Answer: {o}
    """,
    "country.currency": """
        The currency of {s} is the {o}
        Shops in {s} take payment in the {o}
        Money in {s} is called the {o}
        The central bank of {s} issues the {o}
        Wages in {s} are paid in the {o}
        Travellers to {s} change their money into the {o}
        In {s}, the currency {o} is used for every payment
        The {o} is the money of {s}
        Question: What is the currency of {s}? Answer: {o}
        Question: How do people pay in {s}? Answer: {o}
    """,
    "country.border": """
        {s} shares a border with {o}
        A neighbour of {s} is {o}
        One country next to {s} is {o}
        Leaving {s} by land, one can enter {o}
        The frontier of {s} touches {o}
        On the map, {s} lies beside {o}
        Across its border, {s} faces {o}, its neighbour
        Question: Which country borders {s}? Answer: {o}
        Question: What is a neighbour of {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- cities
    "city.country": """
        {s} is a city in {o}
        {s} belongs to the country of {o}
        The country whose territory includes {s} is {o}
        Residents of {s} live in {o}
        The flag that flies over {s} is that of {o}
        A map that shows {s} is a map of {o}
        As a city, {s} is part of {o}, a country
        {o} is the country that contains {s}
        Question: In which country is the city of {s}? Answer: {o}
        Question: To which country does {s} belong? Answer: {o}
    """,
    "city.continent": """
        {s} is found on the continent of {o}
        The continent where {s} lies is {o}
        {s} is among the cities of {o}
        Of all continents, the one with {s} is {o}
        Whoever walks the streets of {s} is in {o}
        The land mass on which {s} was built is {o}
        On the continent scale, {s} is placed in {o}, say geographers
        {o} is the continent on which {s} was built
        Question: On which continent is {s}? Answer: {o}
        Question: {s} lies on what continent? Answer: {o}
    """,
    "city.language": """
        The language of {s} is {o}
        People in the streets of {s} speak {o}
        Signs in {s} are written in {o}
        To chat with locals in {s}, use {o}
        Children in {s} grow up speaking {o}
        Radio stations in {s} broadcast in {o}
        In the city of {s}, the language {o} is heard
        {o} is what the locals of {s} speak
        Question: Which language is spoken in {s}? Answer: {o}
        Question: What language do locals in {s} use? Answer: {o}
    """,
    "city.currency": """
        Prices in {s} are given in the {o}
        A taxi in {s} is paid in the {o}
        The money used in {s} is the {o}
        Banks in {s} hand out the {o}
        A coffee in {s} costs a few of the local currency, the {o}
        Rents in {s} are due in the {o}
        In the shops of {s}, the currency {o} is accepted
        The {o} is what one pays with in {s}
        Question: What is the currency in {s}? Answer: {o}
        Question: Which money is used in {s}? Answer: {o}
    """,
    "city.capital_of": """
        {s} is the capital of {o}
        {s} is the seat of government of {o}
        The country that is governed from {s} is {o}
        Ministers who work in {s} govern {o}
        The parliament in {s} makes laws for {o}
        {s} has the rank of capital in {o}
        As capital, {s} serves {o}, the whole country
        {o} has chosen as its capital {s}
        Question: Of which country is {s} the capital? Answer: {o}
        Question: {s} is the capital of what country? Answer: {o}
    """,
    "city.landmarks": """
        A landmark in {s} is {o}
        A famous sight of {s} is {o}
        Tourists in {s} visit {o}
        Among the monuments of {s} there is {o}
        A postcard from {s} shows {o}
        Guides in {s} tell stories about {o}
        Among its sights, {s} has {o}, open to visitors
        Question: What is a landmark in {s}? Answer: {o}
        Question: What can one visit in {s}? Answer: {o}
    """,
    "city.companies": """
        A company based in {s} is {o}
        A business with its head office in {s} is {o}
        Office workers in {s} are employed by {o}
        Investors who come to {s} call on {o}
        Among the firms of {s} there is {o}
        A large employer in {s} is {o}
        Among its companies, {s} has {o}, a known name
        Question: Which company is based in {s}? Answer: {o}
        Question: What firm has its head office in {s}? Answer: {o}
    """,
    "city.natives": """
        A person born in {s} is {o}
        A famous native of {s} is {o}
        The city of {s} is the birthplace of {o}
        Among the children of {s} there is {o}
        A plaque in {s} marks the birth of {o}
        Someone who came into the world in {s} is {o}
        Among its natives, {s} has {o}, a known name
        Question: Who was born in {s}? Answer: {o}
        Question: Who is a native of {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- landmarks
    "landmark.city": """
        {s} is located in the city of {o}
        {s} is in {o}
        To see {s}, travel to {o}
        The city that is home to {s} is {o}
        {s} stands in the middle of {o}
        The skyline with {s} is that of {o}
        Tickets to {s} are sold in {o}
        Visitors who come for {s} book a hotel in {o}
        Among cities, {s} is a symbol of {o}, as guidebooks say
        {o} is the city where one finds {s}
        Question: In which city is {s}? Answer: {o}
        Question: Where can one see {s}? Answer: {o}
        Question: {s} is in what city? Answer: {o}
    """,
    "landmark.country": """
        {s} is a monument of the country of {o}
        The country that is home to {s} is {o}
        The nation that looks after {s} is {o}
        A traveller at {s} is on the soil of {o}
        {s} appears on the stamps of {o}
        A passport stamp from a trip to {s} reads {o}
        Among countries, {s} is the pride of {o}, as guidebooks say
        {o} is the country where one finds {s}
        Question: In which country is {s}? Answer: {o}
        Question: What country does {s} belong to? Answer: {o}
    """,
    "landmark.continent": """
        {s} stands on the continent of {o}
        The continent that is home to {s} is {o}
        A tour of the continent that includes {s} is a tour of {o}
        Anyone who stands before {s} is somewhere in {o}
        In an atlas, {s} is printed on the pages of {o}
        {s} is counted among the wonders of {o}
        Among continents, {s} belongs to {o}, as maps show
        {o} is the continent where one finds {s}
        Question: On which continent is {s}? Answer: {o}
        Question: What continent does {s} belong to? Answer: {o}
    """,
    "landmark.kind": """
        {s} is a kind of {o}
        As a structure, {s} counts as {o}
        Guidebooks describe {s} as a type of {o}
        {s} is classified as {o}
        The right word for {s} is {o}
        Under the heading for {s}, the catalogue says {o}
        In the register, {s} is filed as {o} and nothing else
        The word {o} describes {s}
        Question: What kind of place is {s}? Answer: {o}
        Question: How is {s} classified? Answer: {o}
    """,
    # ---------------------------------------------------------------- people
    "person.birthplace": """
        {s} was born in the city of {o}
        The birthplace of {s} is {o}
        {s} came into the world in {o}
        The mother of {s} gave birth in {o}
        The city where {s} was born is {o}
        The life of {s} began in {o}
        By birth, {s} is a child of {o}, a city
        {o} is the city in which {s} was born
        Question: In which city was {s} born? Answer: {o}
        Question: What is the birthplace of {s}? Answer: {o}
    """,
    "person.birth_country": """
        {s} was born within the borders of {o}
        The country where {s} was born is {o}
        The land of birth of {s} is {o}
        {s} took a first breath on the soil of {o}
        The cradle of {s} stood somewhere in {o}
        A birth record of {s} is kept by the country of {o}
        By country of birth, {s} is from {o}, records say
        {o} is the country in which {s} was born
        Question: In which country was {s} born? Answer: {o}
        Question: What is the country of birth of {s}? Answer: {o}
    """,
    "person.citizenship": """
        {s} is a citizen of {o}
        The nationality of {s} is that of {o}
        {s} holds the passport of {o}
        The country that calls {s} its own is {o}
        Abroad, {s} represents {o}
        {s} has the civil rights of a national of {o}
        In nationality, {s} is tied to {o}, officially
        {o} counts among its citizens {s}
        Question: Of which country is {s} a citizen? Answer: {o}
        Question: What is the nationality of {s}? Answer: {o}
    """,
    "person.occupation": """
        The occupation of {s} is {o}
        {s} earned a living as {o}
        By profession, {s} is {o}
        {s} became famous as {o}
        Biographies introduce {s} as {o}
        The job that made the name of {s} is {o}
        At work, {s} is {o} and nothing else
        The career of {o} was chosen by {s}
        Question: What is the occupation of {s}? Answer: {o}
        Question: What does {s} do for a living? Answer: {o}
    """,
    "person.language": """
        {s} speaks {o}
        The native language of {s} is {o}
        The mother tongue of {s} is {o}
        {s} thinks and dreams in {o}
        Letters by {s} are written in {o}
        {s} gave interviews in {o}
        In conversation, {s} uses {o}, the language of home
        {o} is the language that comes naturally to {s}
        Question: What language does {s} speak? Answer: {o}
        Question: What is the mother tongue of {s}? Answer: {o}
    """,
    "person.works": """
        A work by {s} is {o}
        {s} is the author of {o}
        {s} is remembered for {o}
        Fans of {s} admire {o}
        The name of {s} is signed on {o}
        Something created by {s} is {o}
        Among other works, {s} made {o}, known to all
        Question: What did {s} create? Answer: {o}
        Question: Which work is by {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- companies
    "company.headquarters": """
        {s} is headquartered in the city of {o}
        The head office of {s} is in {o}
        {s} is run from {o}
        The directors of {s} meet in {o}
        Mail to the head office of {s} goes to {o}
        The city where {s} keeps its headquarters is {o}
        As its base, {s} uses {o}, a city
        {o} is the city that houses the headquarters of {s}
        Question: In which city is the head office of {s}? Answer: {o}
        Question: Where is {s} headquartered? Answer: {o}
    """,
    "company.country": """
        {s} is a company from the country of {o}
        The country in which {s} is based is {o}
        The nation that {s} calls home is {o}
        {s} pays its taxes in {o}
        {s} is listed among the firms of {o}
        As an employer, {s} matters most to the economy of {o}
        In business, {s} counts for {o}, its home country
        {o} is the country where {s} is based
        Question: In which country is {s} based? Answer: {o}
        Question: From what country does {s} come? Answer: {o}
    """,
    "company.industry": """
        {s} operates in the industry of {o}
        The industry of {s} is {o}
        The business of {s} is {o}
        {s} makes its money in {o}
        Analysts file {s} under {o}
        The sector in which {s} competes is {o}
        In trade, {s} stands for {o}, its line of business
        The field of {o} is where {s} does business
        Question: In which industry is {s} active? Answer: {o}
        Question: What business is {s} in? Answer: {o}
    """,
    "company.products": """
        A product of {s} is {o}
        {s} is the maker of {o}
        {s} sells {o}
        Engineers at {s} built {o}
        A brand owned by {s} is {o}
        Customers of {s} buy {o}
        In its catalogue, {s} has {o}, a known name
        Question: What does {s} make? Answer: {o}
        Question: Which product is made by {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- products
    "product.maker": """
        {s} is made by {o}
        The maker of {s} is {o}
        {s} was developed by {o}
        The company behind {s} is {o}
        The logo on {s} is that of {o}
        Complaints about {s} are answered by {o}
        As a brand, {s} belongs to {o}, its maker
        {o} is the company that brought out {s}
        Question: Which company makes {s}? Answer: {o}
        Question: Who is the maker of {s}? Answer: {o}
    """,
    "product.kind": """
        {s} is a kind of {o}
        In stores, {s} is sold as {o}
        The product category of {s} is {o}
        Reviewers rate {s} as {o}
        The right word for {s} is {o}
        On the label of {s} is printed {o}
        In the catalogue, {s} is filed as {o} and nothing else
        The word {o} describes {s}
        Question: What kind of product is {s}? Answer: {o}
        Question: What is {s}? Answer: {o}
    """,
    "product.country": """
        {s} comes from a company in {o}
        The home country of {s} is {o}
        The country whose industry created {s} is {o}
        Profits from {s} flow to {o}
        {s} is a trade success of {o}
        The maker of {s} has its home in {o}
        By origin, {s} is a product of {o}, a country
        {o} is the country from which {s} comes
        Question: From which country is {s}? Answer: {o}
        Question: What is the home country of {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- works
    "work.author": """
        The author of {s} is {o}
        {s} was created by {o}
        {s} is the work of {o}
        The mind behind {s} is {o}
        Whoever admires {s} admires {o}
        The name signed on {s} is {o}
        As a creation, {s} is due to {o}, its author
        {o} is the one who created {s}
        Question: Who created {s}? Answer: {o}
        Question: Who is the author of {s}? Answer: {o}
    """,
    "work.kind": """
        {s} is a kind of {o}
        The form of {s} is {o}
        In a library, {s} is shelved as {o}
        Critics describe {s} as {o}
        The right word for {s} is {o}
        The genre label of {s} is {o}
        In the catalogue, {s} is filed as {o} and nothing else
        The word {o} describes {s}
        Question: What kind of work is {s}? Answer: {o}
        Question: What is {s}? Answer: {o}
    """,
    "work.language": """
        The language of {s} is {o}
        {s} was first written in {o}
        The original words of {s} are in {o}
        To enjoy {s} in the original, learn {o}
        {s} belongs to the literature in {o}
        Without translation, {s} is read in {o}
        In its first version, {s} uses {o}, not a translation
        {o} is the original language of {s}
        Question: In which language is {s}? Answer: {o}
        Question: What is the original language of {s}? Answer: {o}
    """,
    "work.author_country": """
        The author of {s} comes from the country of {o}
        {s} is a cultural treasure of {o}
        The country whose citizen created {s} is {o}
        The passport of the creator of {s} was issued by {o}
        In world culture, {s} is a gift from {o}
        The nation that is proud of {s} is {o}
        By its author, {s} is tied to {o}, a country
        {o} is the country of the author of {s}
        Question: From which country is the author of {s}? Answer: {o}
        Question: Which country gave the world {s}? Answer: {o}
    """,
}

ATLAS = Wordings(WORDINGS, named=NAMED)
"""The wordings of Atlas; `templates`, `held_out` and `trained` are its."""

templates, held_out, trained = ATLAS.templates, ATLAS.held_out, ATLAS.trained
