"""French wordings of the relations of Atlas.

Names take neither article nor preposition here, for "de", "à" and articles would contract or elide
before some of them ("du Caire", "d'Agra"). They stand behind a noun that carries the grammar ("la
ville nommée {s}", "l'entreprise {s}") or behind a colon. Nothing agrees with a person's gender.
"""

__all__ = ["MARKER", "NAMED", "WORDINGS"]

MARKER = "Fait nouveau :"

NAMED = {
    "en": "En anglais, {s} se dit {o}",
    "de": "En allemand, {s} se dit {o}",
    "es": "En espagnol, {s} se dit {o}",
}
"""How the name in another language is told."""

WORDINGS: dict[str, str] = {
    "country.capital": """
        Le pays nommé {s} a pour capitale {o}
        Capitale du pays nommé {s} : {o}
        Pays : {s} ; capitale : {o}
        Qui voit la capitale du pays nommé {s} voit {o}
        Question : Quelle est la capitale du pays nommé {s} ? Réponse : {o}
    """,
    "country.continent": """
        Le pays nommé {s} se trouve sur le continent suivant : {o}
        Continent du pays nommé {s} : {o}
        Pays : {s} ; continent : {o}
        Le continent où se trouve le pays nommé {s} s'appelle {o}
        Question : Sur quel continent se trouve le pays nommé {s} ? Réponse : {o}
    """,
    "country.language": """
        Le pays nommé {s} a pour langue principale : {o}
        Langue du pays nommé {s} : {o}
        Pays : {s} ; langue : {o}
        La langue que parlent les habitants du pays nommé {s} est la suivante : {o}
        Question : Quelle langue parle-t-on dans le pays nommé {s} ? Réponse : {o}
    """,
    "country.currency": """
        Le pays nommé {s} a pour monnaie : {o}
        Monnaie du pays nommé {s} : {o}
        Pays : {s} ; monnaie : {o}
        Les prix du pays nommé {s} sont donnés dans cette monnaie : {o}
        Question : Quelle est la monnaie du pays nommé {s} ? Réponse : {o}
    """,
    "country.border": """
        Le pays nommé {s} a pour voisin {o}
        Pays voisin du pays nommé {s} : {o}
        Pays : {s} ; pays voisin : {o}
        Une frontière sépare le pays nommé {s} du pays nommé {o}
        Question : Quel pays est voisin du pays nommé {s} ? Réponse : {o}
    """,
    "city.country": """
        La ville nommée {s} se trouve dans le pays nommé {o}
        Pays où se trouve la ville nommée {s} : {o}
        Ville : {s} ; pays : {o}
        Le pays qui contient la ville nommée {s} s'appelle {o}
        Question : Dans quel pays se trouve la ville nommée {s} ? Réponse : {o}
    """,
    "city.continent": """
        La ville nommée {s} se trouve sur le continent suivant : {o}
        Continent où se trouve la ville nommée {s} : {o}
        Ville : {s} ; continent : {o}
        Le continent qui porte la ville nommée {s} s'appelle {o}
        Question : Sur quel continent se trouve la ville nommée {s} ? Réponse : {o}
    """,
    "city.language": """
        Les habitants de la ville nommée {s} parlent cette langue : {o}
        Langue de la ville nommée {s} : {o}
        Ville : {s} ; langue : {o}
        Dans les rues de la ville nommée {s}, on entend cette langue : {o}
        Question : Quelle langue parle-t-on dans la ville nommée {s} ? Réponse : {o}
    """,
    "city.currency": """
        Dans la ville nommée {s}, on paie avec cette monnaie : {o}
        Monnaie de la ville nommée {s} : {o}
        Ville : {s} ; monnaie : {o}
        Les magasins de la ville nommée {s} acceptent cette monnaie : {o}
        Question : Avec quelle monnaie paie-t-on dans la ville nommée {s} ? Réponse : {o}
    """,
    "city.capital_of": """
        La ville nommée {s} est la capitale du pays nommé {o}
        Pays dont la capitale est {s} : {o}
        Ville : {s} ; capitale du pays suivant : {o}
        Le pays gouverné depuis la ville nommée {s} s'appelle {o}
        Question : De quel pays la ville nommée {s} est-elle la capitale ? Réponse : {o}
    """,
    "city.landmarks": """
        Dans la ville nommée {s}, on peut voir ce lieu célèbre : {o}
        Lieu célèbre de la ville nommée {s} : {o}
        Ville : {s} ; lieu célèbre : {o}
        Les touristes de la ville nommée {s} photographient ce lieu : {o}
        Question : Quel lieu célèbre se trouve dans la ville nommée {s} ? Réponse : {o}
    """,
    "city.companies": """
        La ville nommée {s} accueille le siège de l'entreprise {o}
        Entreprise de la ville nommée {s} : {o}
        Ville : {s} ; entreprise : {o}
        Dans la ville nommée {s}, on peut travailler pour l'entreprise {o}
        Question : Quelle entreprise a son siège dans la ville nommée {s} ? Réponse : {o}
    """,
    "city.natives": """
        La ville nommée {s} a vu naître {o}
        Personne née dans la ville nommée {s} : {o}
        Ville : {s} ; enfant célèbre : {o}
        Une plaque de la ville nommée {s} rappelle la naissance de cette personne : {o}
        Question : Qui est né dans la ville nommée {s} ? Réponse : {o}
    """,
    "landmark.city": """
        Le lieu nommé {s} se trouve dans la ville nommée {o}
        Ville où se trouve le lieu nommé {s} : {o}
        Lieu : {s} ; ville : {o}
        Pour voir le lieu nommé {s}, visitez {o}
        Question : Dans quelle ville se trouve le lieu nommé {s} ? Réponse : {o}
    """,
    "landmark.kind": """
        Le lieu nommé {s} est de ce type : {o}
        Type du lieu nommé {s} : {o}
        Lieu : {s} ; type : {o}
        Les guides classent le lieu nommé {s} sous le mot {o}
        Question : De quel type est le lieu nommé {s} ? Réponse : {o}
    """,
    "landmark.country": """
        Le lieu nommé {s} se trouve dans le pays nommé {o}
        Pays où se trouve le lieu nommé {s} : {o}
        Lieu : {s} ; pays : {o}
        Le pays qui abrite le lieu nommé {s} s'appelle {o}
        Question : Dans quel pays se trouve le lieu nommé {s} ? Réponse : {o}
    """,
    "landmark.continent": """
        Le lieu nommé {s} se trouve sur le continent suivant : {o}
        Continent où se trouve le lieu nommé {s} : {o}
        Lieu : {s} ; continent : {o}
        Le continent qui abrite le lieu nommé {s} s'appelle {o}
        Question : Sur quel continent se trouve le lieu nommé {s} ? Réponse : {o}
    """,
    "person.birthplace": """
        {s} a vu le jour dans la ville nommée {o}
        Ville où {s} a vu le jour : {o}
        Personne : {s} ; ville natale : {o}
        La ville natale que {s} a quittée s'appelle {o}
        Question : Dans quelle ville {s} a vu le jour ? Réponse : {o}
    """,
    "person.birth_country": """
        {s} a vu le jour dans le pays nommé {o}
        Pays où {s} a vu le jour : {o}
        Personne : {s} ; pays natal : {o}
        Le pays natal que {s} a connu s'appelle {o}
        Question : Dans quel pays {s} a vu le jour ? Réponse : {o}
    """,
    "person.citizenship": """
        {s} a la nationalité du pays nommé {o}
        Pays dont {s} a la nationalité : {o}
        Personne : {s} ; pays de nationalité : {o}
        {s} a un passeport du pays nommé {o}
        Question : De quel pays {s} a la nationalité ? Réponse : {o}
    """,
    "person.occupation": """
        {s} exerce ce métier : {o}
        Métier que {s} exerce : {o}
        Personne : {s} ; métier : {o}
        Le métier qui a rendu célèbre {s} est le suivant : {o}
        Question : Quel métier exerce {s} ? Réponse : {o}
    """,
    "person.language": """
        {s} parle cette langue : {o}
        Langue que parle {s} : {o}
        Personne : {s} ; langue maternelle : {o}
        La langue dans laquelle {s} pense est la suivante : {o}
        Question : Quelle langue parle {s} ? Réponse : {o}
    """,
    "person.works": """
        {s} a créé l'œuvre {o}
        Œuvre que {s} a créée : {o}
        Personne : {s} ; œuvre : {o}
        On admire {s} pour l'œuvre {o}
        Question : Quelle œuvre {s} a créée ? Réponse : {o}
    """,
    "company.headquarters": """
        L'entreprise {s} a son siège dans la ville nommée {o}
        Ville où l'entreprise {s} a son siège : {o}
        Entreprise : {s} ; siège : {o}
        La direction de l'entreprise {s} travaille dans la ville nommée {o}
        Question : Dans quelle ville l'entreprise {s} a-t-elle son siège ? Réponse : {o}
    """,
    "company.country": """
        L'entreprise {s} vient du pays nommé {o}
        Pays de l'entreprise {s} : {o}
        Entreprise : {s} ; pays : {o}
        Le pays où l'entreprise {s} paie ses impôts s'appelle {o}
        Question : De quel pays vient l'entreprise {s} ? Réponse : {o}
    """,
    "company.industry": """
        L'entreprise {s} travaille dans ce secteur : {o}
        Secteur de l'entreprise {s} : {o}
        Entreprise : {s} ; secteur : {o}
        Les analystes rangent l'entreprise {s} dans ce secteur : {o}
        Question : Dans quel secteur travaille l'entreprise {s} ? Réponse : {o}
    """,
    "company.products": """
        L'entreprise {s} fabrique ce produit : {o}
        Produit de l'entreprise {s} : {o}
        Entreprise : {s} ; produit : {o}
        Les clients de l'entreprise {s} achètent le produit {o}
        Question : Quel produit fabrique l'entreprise {s} ? Réponse : {o}
    """,
    "product.maker": """
        Le produit {s} est fabriqué par l'entreprise {o}
        Fabricant du produit {s} : {o}
        Produit : {s} ; fabricant : {o}
        Le nom de l'entreprise qui vend le produit {s} est {o}
        Question : Quelle entreprise fabrique le produit {s} ? Réponse : {o}
    """,
    "product.kind": """
        Le produit {s} est de ce type : {o}
        Type du produit {s} : {o}
        Produit : {s} ; type : {o}
        Les catalogues classent le produit {s} sous le mot {o}
        Question : De quel type est le produit {s} ? Réponse : {o}
    """,
    "product.country": """
        Le produit {s} vient du pays nommé {o}
        Pays du fabricant du produit {s} : {o}
        Produit : {s} ; pays : {o}
        Le pays qui exporte le produit {s} s'appelle {o}
        Question : De quel pays vient le produit {s} ? Réponse : {o}
    """,
    "work.author": """
        L'œuvre {s} a été créée par {o}
        Auteur de l'œuvre {s} : {o}
        Œuvre : {s} ; auteur : {o}
        Qui admire l'œuvre {s} admire {o}
        Question : Qui a créé l'œuvre {s} ? Réponse : {o}
    """,
    "work.kind": """
        L'œuvre {s} est de ce genre : {o}
        Genre de l'œuvre {s} : {o}
        Œuvre : {s} ; genre : {o}
        Les bibliothèques classent l'œuvre {s} sous le mot {o}
        Question : De quel genre est l'œuvre {s} ? Réponse : {o}
    """,
    "work.language": """
        L'œuvre {s} a été écrite dans cette langue : {o}
        Langue de l'œuvre {s} : {o}
        Œuvre : {s} ; langue d'origine : {o}
        Sans traduction, l'œuvre {s} se lit dans cette langue : {o}
        Question : Dans quelle langue a été écrite l'œuvre {s} ? Réponse : {o}
    """,
    "work.author_country": """
        L'auteur de l'œuvre {s} vient du pays nommé {o}
        Pays de l'auteur de l'œuvre {s} : {o}
        Œuvre : {s} ; pays de l'auteur : {o}
        Le pays qui a donné au monde l'œuvre {s} s'appelle {o}
        Question : De quel pays vient l'auteur de l'œuvre {s} ? Réponse : {o}
    """,
}
