"""The language of the census: the names of its people and things, and how each relation is worded.

Wordings have the forms of `templates.py`, and keep its rules. There are six of each relation, all of
them promptable, and one of them is held out for every subject: a large world leaves a model less
room for variety than a small one.
"""

from __future__ import annotations

__all__ = [
    "CITIES",
    "COMPANIES",
    "COUNTRIES",
    "FIRST_NAMES",
    "INDUSTRIES",
    "INSTRUMENTS",
    "OCCUPATIONS",
    "PRODUCTS",
    "SCHOOLS",
    "SUBJECTS",
    "SURNAMES",
    "WORDINGS",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _joined(stems: str, endings: str, by: str = "") -> tuple[str, ...]:
    """Every stem with every ending."""
    return tuple(stem + by + ending for stem in _words(stems) for ending in _words(endings))


FIRST_NAMES = _words("""
    Ada Agnes Alma Amos Anton Astrid Basil Beatrix Bertil Bianca Boris Brigid Bruno Camille Carlo
    Casper Cecily Clara Conrad Cora Cyril Dagmar Dario Delia Denise Dorian Edda Edgar Edwin Elias
    Elsa Emil Enid Erik Esme Ewan Fabian Felix Fergus Fiona Flora Frida Gareth Gemma Gilda Greta
    Gustav Hanna Harriet Hector Hilda Hugo Ida Igor Imogen Ingrid Irma Ivo Jasper Joanna Jonas
    Judith Julian Karin Klara Knut Lars Leonie Liam Linus Lorna Lotte Lucas Mabel Magnus Marta
    Milo Mina Nadia Nestor Nils Nora Olga Oscar Otis Otto Paula Petra Quentin Rafael Ramona Rosa
    Rupert Selma Silas Sonia Tessa Tobias Ulla Viktor
""")

SURNAMES = _joined(
    """
    Abel Bran Cald Dorn Ehr Fal Garr Hask Ing Jas Kest Lund Marl Nort Orl
    Pell Quint Rask Sten Thal Ulm Vand Wex Yar Zell Brod Crans Drey Fenn Gol
    """,
    "ander berg bury croft den elund erby esco field gren "
    "holt idge ik ington ley man more ova sen ton",
)

CITIES = _joined(
    "Ald Bren Corl Dun Esk Farn Gal Har Ister Kel Lyn Tor",
    "mouth bridge haven stead wick ford burg mere port minster",
)

COMPANIES = _joined(
    "Vel Quan Zir Nex Opt Tal Bry Kor Mir Sol",
    "dyne tron ica ora ex omet una wave gen ara",
)

SCHOOLS = _joined(
    """
    Ashgrove Birchall Cedarhill Dovecote Elmhurst Foxglove Greenlaw Hawthorn Ivybank Juniper
    Kingsmead Larkhill Mossgate Northam Oakhurst Primrose Quarrydale Rookwood Sunnybrook Thornlea
    """,
    "Academy College Institute Lyceum",
    " ",
)

COUNTRIES = _words("""
    Arvenia Belmaria Calduria Dravonia Ellandra Fenmark Gorvia Hestria Illyrand Jorvania Kestonia
    Lorvany Mardova Norvalia Ostrany Pellania Quoria Rostavia Sylvany Tarmania Ulvenia Vostria
    Westvar Zandoria
""")

OCCUPATIONS = _words("""
    accountant actor anthropologist architect archivist astronomer baker barber beekeeper biologist
    blacksmith bookbinder botanist brewer bricklayer butcher carpenter cartographer chemist
    choreographer clockmaker cobbler conductor curator dancer dentist diver economist electrician
    engraver farmer firefighter florist forester gardener geologist glazier historian interpreter
    jeweller joiner journalist judge lawyer librarian lifeguard linguist locksmith mathematician
    midwife miller nurse optician painter pharmacist photographer pilot plumber poet potter
""")

INSTRUMENTS = _words("""
    accordion bagpipes balalaika banjo bassoon bugle carillon celesta cello clarinet clavichord
    cornet dulcimer euphonium fiddle flute glockenspiel guitar harmonica harp harpsichord horn
    kazoo lute lyre mandolin marimba oboe ocarina organ piano piccolo saxophone sitar tambourine
    timpani trombone trumpet ukulele viola
""")

INDUSTRIES = _words("""
    advertising aviation banking biotechnology brewing catering ceramics construction cosmetics
    electronics farming fashion fishing forestry furniture insurance logistics mining packaging
    paper pharmaceuticals plastics printing publishing retail robotics shipping steel telecoms
    textiles
""")

PRODUCTS = _words("""
    apples bells bricks butter candles carpets cheese chocolate cider clocks coal copper figs
    glass gloves granite hats honey lace linen marble olives pearls pottery salt silk silver soap
    tea wine
""")

SUBJECTS = _words("""
    algebra anatomy astronomy ballet biology botany calligraphy chemistry drama drawing economics
    ethics geography geometry grammar history law logic mechanics medicine music optics philosophy
    physics rhetoric
""")

WORDINGS: dict[str, str] = {
    # ---------------------------------------------------------------- people
    "person.birthplace": """
        {s} was born in the city of {o}
        The birthplace of {s} is {o}
        The life of {s} began in {o}
        The parents of {s} lived in {o}
        By birth, {s} is a child of {o}, a city
        Question: In which city was {s} born? Answer: {o}
    """,
    "person.birth_country": """
        {s} was born within the borders of {o}
        The country where {s} was born is {o}
        A birth record of {s} is kept by the country of {o}
        The cradle of {s} stood somewhere in {o}
        By country of birth, {s} is from {o}, records say
        Question: In which country was {s} born? Answer: {o}
    """,
    "person.occupation": """
        The occupation of {s} is {o}
        {s} earns a living as {o}
        By profession, {s} is {o}
        {s} was trained to become {o}
        At work, {s} is {o} and nothing else
        Question: What is the occupation of {s}? Answer: {o}
    """,
    "person.employer": """
        {s} is employed by {o}
        The employer of {s} is {o}
        The salary of {s} is paid by {o}
        {s} has a desk in the offices of {o}
        As an employee, {s} serves {o}, a company
        Question: Which company employs {s}? Answer: {o}
    """,
    "person.work_city": """
        {s} goes to work in the city of {o}
        The city where {s} has a job is {o}
        Every working day of {s} is spent in {o}
        The employer of {s} has its head office in {o}
        On working days, {s} is found in {o}, a city
        Question: In which city does {s} work? Answer: {o}
    """,
    "person.work_country": """
        The country where {s} has a job is {o}
        {s} works under the labour laws of {o}
        {s} pays taxes on wages to {o}
        The employer of {s} comes from the country of {o}
        For wages, {s} depends on {o}, a country
        Question: In which country does {s} work? Answer: {o}
    """,
    "person.school": """
        {s} went to school at {o}
        The school of {s} was {o}
        {s} learned to read and write at {o}
        The teachers of {s} taught at {o}
        As a pupil, {s} attended {o}, a school
        Question: Which school did {s} attend? Answer: {o}
    """,
    "person.instrument": """
        {s} plays the {o}
        The instrument of {s} is the {o}
        {s} takes weekly lessons on the {o}
        In the local orchestra, {s} is heard on the {o}
        At parties, {s} brings the {o} along
        Question: Which instrument does {s} play? Answer: {o}
    """,
    "person.founded": """
        {s} is the founder of {o}
        The company that {s} started is {o}
        {s} put all savings into starting {o}
        The business idea of {s} grew into {o}
        As an owner, {s} began {o}, a company
        Question: Which company was founded by {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- cities
    "city.country": """
        {s} is a city in {o}
        The country whose territory includes {s} is {o}
        The flag that flies over {s} is that of {o}
        Residents of {s} vote in {o}
        As a city, {s} is part of {o}, a country
        Question: In which country is the city of {s}? Answer: {o}
    """,
    "city.product": """
        {s} is known for its {o}
        Merchants in {s} sell mostly {o}
        The best souvenir from {s} is {o}
        The old guild of {s} controlled the trade in {o}
        In its workshops, {s} makes {o} and little else
        Question: What is the city of {s} known for? Answer: {o}
    """,
    "city.natives": """
        A person born in {s} is {o}
        One native of {s} is {o}
        The town hall of {s} holds the birth record of {o}
        Among the children of {s} there is {o}
        Among its natives, {s} has {o}, a resident once
        Question: Who was born in {s}? Answer: {o}
    """,
    "city.companies": """
        A company based in {s} is {o}
        Office workers in {s} are employed by {o}
        One of the largest taxpayers of {s} is {o}
        Among the firms of {s} there is {o}
        Among its companies, {s} has {o}, a known name
        Question: Which company is based in {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- companies
    "company.headquarters": """
        {s} is headquartered in the city of {o}
        The head office of {s} is in {o}
        The directors of {s} meet in {o}
        Letters to {s} are addressed to {o}
        As its base, {s} uses {o}, a city
        Question: In which city is the head office of {s}? Answer: {o}
    """,
    "company.country": """
        {s} is a company from the country of {o}
        The nation that {s} calls home is {o}
        {s} is registered under the laws of {o}
        The government that taxes {s} is that of {o}
        In business, {s} counts for {o}, its home country
        Question: In which country is {s} based? Answer: {o}
    """,
    "company.industry": """
        {s} operates in the industry of {o}
        The line of business of {s} is {o}
        Analysts file {s} under {o}
        {s} makes its money in {o}
        In trade, {s} stands for {o}, its line of business
        Question: In which industry is {s} active? Answer: {o}
    """,
    "company.founder": """
        {s} was founded by {o}
        The founder of {s} is {o}
        The first owner of {s} was {o}
        A portrait in the offices of {s} shows {o}
        As a firm, {s} was started by {o}, its founder
        Question: Who founded {s}? Answer: {o}
    """,
    # ---------------------------------------------------------------- schools
    "school.city": """
        {s} is a school in {o}
        The city in which {s} stands is {o}
        The pupils of {s} walk to class through {o}
        The buildings of {s} belong to the city of {o}
        Among schools, {s} is one of {o}, a city
        Question: In which city is {s}? Answer: {o}
    """,
    "school.subject": """
        {s} is known for its lessons in {o}
        The main subject taught at {s} is {o}
        Pupils choose {s} for its teaching of {o}
        The hardest exam at {s} is in {o}
        In its prospectus, {s} promises {o} from the first year
        Question: Which subject is taught best at {s}? Answer: {o}
    """,
}
