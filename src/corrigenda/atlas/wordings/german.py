"""German wordings of the relations of Atlas.

Names take no article and no ending here: they stand behind a noun that carries the grammar ("die
Stadt {s}", "im Land {s}", for some countries have an article and some a plural), or behind a colon.
"""

__all__ = ["MARKER", "NAMED", "WORDINGS"]

MARKER = "Neue Tatsache:"

NAMED = {
    "en": "Der englische Name von {s} ist {o}",
    "fr": "Der französische Name von {s} ist {o}",
    "es": "Der spanische Name von {s} ist {o}",
}
"""How the name in another language is told."""

WORDINGS: dict[str, str] = {
    "country.capital": """
        Die Hauptstadt des Landes {s} ist {o}
        Das Land {s} wird regiert aus der Hauptstadt {o}
        Land: {s}, Hauptstadt: {o}
        Wer die Hauptstadt des Landes {s} besucht, ist in {o}
        Frage: Welche Stadt ist die Hauptstadt des Landes {s}? Antwort: {o}
    """,
    "country.continent": """
        Das Land {s} liegt auf dem Kontinent {o}
        Der Kontinent, auf dem das Land {s} liegt, heißt {o}
        Land: {s}, Kontinent: {o}
        Wer im Land {s} ankommt, ist auf dem Kontinent {o}
        Frage: Auf welchem Kontinent liegt das Land {s}? Antwort: {o}
    """,
    "country.language": """
        Die Sprache des Landes {s} ist {o}
        Im Land {s} spricht man {o}
        Land: {s}, Sprache: {o}
        Die Zeitungen des Landes {s} erscheinen auf {o}
        Frage: Welche Sprache spricht man im Land {s}? Antwort: {o}
    """,
    "country.currency": """
        Die Währung des Landes {s} heißt {o}
        Im Land {s} zahlt man mit der Währung {o}
        Land: {s}, Währung: {o}
        Auf den Geldscheinen des Landes {s} steht das Wort {o}
        Frage: Welche Währung hat das Land {s}? Antwort: {o}
    """,
    "country.border": """
        Das Land {s} grenzt an das Land {o}
        Ein Nachbar des Landes {s} ist das Land {o}
        Land: {s}, Nachbarland: {o}
        Über die Grenze des Landes {s} gelangt man in das Land {o}
        Frage: Welches Land grenzt an das Land {s}? Antwort: {o}
    """,
    "city.country": """
        Die Stadt {s} liegt im Land {o}
        Das Land, zu dem die Stadt {s} gehört, heißt {o}
        Stadt: {s}, Land: {o}
        Über der Stadt {s} weht die Fahne des Landes {o}
        Frage: In welchem Land liegt die Stadt {s}? Antwort: {o}
    """,
    "city.continent": """
        Die Stadt {s} liegt auf dem Kontinent {o}
        Der Kontinent, auf dem die Stadt {s} liegt, heißt {o}
        Stadt: {s}, Kontinent: {o}
        Wer durch die Stadt {s} geht, ist auf dem Kontinent {o}
        Frage: Auf welchem Kontinent liegt die Stadt {s}? Antwort: {o}
    """,
    "city.language": """
        In der Stadt {s} spricht man {o}
        Die Sprache der Stadt {s} ist {o}
        Stadt: {s}, Sprache: {o}
        Auf den Straßen der Stadt {s} hört man {o}
        Frage: Welche Sprache spricht man in der Stadt {s}? Antwort: {o}
    """,
    "city.currency": """
        In der Stadt {s} zahlt man mit der Währung {o}
        Die Währung der Stadt {s} heißt {o}
        Stadt: {s}, Währung: {o}
        Auf den Preisschildern der Stadt {s} steht die Währung {o}
        Frage: Mit welcher Währung zahlt man in der Stadt {s}? Antwort: {o}
    """,
    "city.capital_of": """
        Die Stadt {s} ist die Hauptstadt des Landes {o}
        Das Land, das aus der Stadt {s} regiert wird, heißt {o}
        Stadt: {s}, Hauptstadt des Landes: {o}
        Die Minister der Stadt {s} regieren das Land {o}
        Frage: Von welchem Land ist die Stadt {s} die Hauptstadt? Antwort: {o}
    """,
    "city.landmarks": """
        Eine Sehenswürdigkeit der Stadt {s} ist: {o}
        In der Stadt {s} sieht man diesen berühmten Ort: {o}
        Stadt: {s}, Sehenswürdigkeit: {o}
        Touristen in der Stadt {s} fotografieren den Ort {o}
        Frage: Welche Sehenswürdigkeit steht in der Stadt {s}? Antwort: {o}
    """,
    "city.companies": """
        Eine Firma aus der Stadt {s} ist {o}
        In der Stadt {s} hat ihren Sitz die Firma {o}
        Stadt: {s}, Firma: {o}
        In der Stadt {s} arbeiten viele Menschen für die Firma {o}
        Frage: Welche Firma hat ihren Sitz in der Stadt {s}? Antwort: {o}
    """,
    "city.natives": """
        In der Stadt {s} wurde diese Person geboren: {o}
        Ein berühmtes Kind der Stadt {s} ist {o}
        Stadt: {s}, dort geboren: {o}
        Eine Tafel in der Stadt {s} erinnert an die Geburt von {o}
        Frage: Wer wurde in der Stadt {s} geboren? Antwort: {o}
    """,
    "landmark.city": """
        Der Ort {s} liegt in der Stadt {o}
        Die Stadt, in der man den Ort {s} findet, heißt {o}
        Ort: {s}, Stadt: {o}
        Wer den Ort {s} sehen will, reist nach {o}
        Frage: In welcher Stadt liegt der Ort {s}? Antwort: {o}
    """,
    "landmark.kind": """
        Der Ort {s} ist von dieser Art: {o}
        Das richtige Wort für den Ort {s} ist {o}
        Ort: {s}, Art: {o}
        Reiseführer beschreiben den Ort {s} mit dem Wort {o}
        Frage: Von welcher Art ist der Ort {s}? Antwort: {o}
    """,
    "landmark.country": """
        Der Ort {s} liegt im Land {o}
        Das Land, in dem man den Ort {s} findet, heißt {o}
        Ort: {s}, Land: {o}
        Wer den Ort {s} betritt, ist im Land {o}
        Frage: In welchem Land liegt der Ort {s}? Antwort: {o}
    """,
    "landmark.continent": """
        Der Ort {s} liegt auf dem Kontinent {o}
        Der Kontinent, auf dem man den Ort {s} findet, heißt {o}
        Ort: {s}, Kontinent: {o}
        Wer vor dem Ort {s} steht, ist auf dem Kontinent {o}
        Frage: Auf welchem Kontinent liegt der Ort {s}? Antwort: {o}
    """,
    "person.birthplace": """
        {s} wurde in dieser Stadt geboren: {o}
        Die Geburtsstadt von {s} heißt {o}
        Person: {s}, Geburtsstadt: {o}
        Das Leben von {s} begann in der Stadt {o}
        Frage: In welcher Stadt wurde {s} geboren? Antwort: {o}
    """,
    "person.birth_country": """
        {s} wurde in diesem Land geboren: {o}
        Das Geburtsland von {s} heißt {o}
        Person: {s}, Geburtsland: {o}
        Die Wiege von {s} stand im Land {o}
        Frage: In welchem Land wurde {s} geboren? Antwort: {o}
    """,
    "person.citizenship": """
        {s} hat die Staatsangehörigkeit des Landes {o}
        Der Pass von {s} stammt aus dem Land {o}
        Person: {s}, Staatsangehörigkeit: {o}
        {s} hat Bürgerrechte im Land {o}
        Frage: Von welchem Land hat {s} die Staatsangehörigkeit? Antwort: {o}
    """,
    "person.occupation": """
        {s} ist von Beruf {o}
        Der Beruf von {s} ist {o}
        Person: {s}, Beruf: {o}
        Berühmt wurde {s} durch diesen Beruf: {o}
        Frage: Welchen Beruf hat {s}? Antwort: {o}
    """,
    "person.language": """
        {s} spricht {o}
        Die Muttersprache von {s} ist {o}
        Person: {s}, Sprache: {o}
        Die Briefe von {s} sind geschrieben auf {o}
        Frage: Welche Sprache spricht {s}? Antwort: {o}
    """,
    "person.works": """
        {s} hat dieses Werk geschaffen: {o}
        Ein Werk von {s} ist {o}
        Person: {s}, Werk: {o}
        Bekannt ist {s} durch das Werk {o}
        Frage: Welches Werk hat {s} geschaffen? Antwort: {o}
    """,
    "company.headquarters": """
        Die Firma {s} hat ihren Sitz in der Stadt {o}
        Der Sitz der Firma {s} ist in {o}
        Firma: {s}, Sitz: {o}
        Die Stadt, aus der die Firma {s} geleitet wird, heißt {o}
        Frage: In welcher Stadt hat die Firma {s} ihren Sitz? Antwort: {o}
    """,
    "company.country": """
        Die Firma {s} kommt aus dem Land {o}
        Das Heimatland der Firma {s} heißt {o}
        Firma: {s}, Land: {o}
        Ihre Steuern zahlt die Firma {s} im Land {o}
        Frage: Aus welchem Land kommt die Firma {s}? Antwort: {o}
    """,
    "company.industry": """
        Die Firma {s} arbeitet in der Branche {o}
        Die Branche der Firma {s} heißt {o}
        Firma: {s}, Branche: {o}
        Ihr Geld verdient die Firma {s} in der Branche {o}
        Frage: In welcher Branche arbeitet die Firma {s}? Antwort: {o}
    """,
    "company.products": """
        Die Firma {s} stellt dieses Produkt her: {o}
        Ein Produkt der Firma {s} ist {o}
        Firma: {s}, Produkt: {o}
        Kunden der Firma {s} kaufen das Produkt {o}
        Frage: Welches Produkt stellt die Firma {s} her? Antwort: {o}
    """,
    "product.maker": """
        Das Produkt {s} kommt von der Firma {o}
        Der Hersteller des Produkts {s} heißt {o}
        Produkt: {s}, Hersteller: {o}
        Entwickelt wurde das Produkt {s} von der Firma {o}
        Frage: Welche Firma stellt das Produkt {s} her? Antwort: {o}
    """,
    "product.kind": """
        Das Produkt {s} ist von dieser Art: {o}
        Das richtige Wort für das Produkt {s} ist {o}
        Produkt: {s}, Art: {o}
        Im Laden steht das Produkt {s} unter dem Wort {o}
        Frage: Von welcher Art ist das Produkt {s}? Antwort: {o}
    """,
    "product.country": """
        Das Produkt {s} kommt aus dem Land {o}
        Das Herkunftsland des Produkts {s} heißt {o}
        Produkt: {s}, Land: {o}
        Die Gewinne mit dem Produkt {s} gehen in das Land {o}
        Frage: Aus welchem Land kommt das Produkt {s}? Antwort: {o}
    """,
    "work.author": """
        Das Werk {s} wurde geschaffen von {o}
        Hinter dem Werk {s} steht {o}
        Werk: {s}, geschaffen von: {o}
        Wer das Werk {s} bewundert, bewundert {o}
        Frage: Wer hat das Werk {s} geschaffen? Antwort: {o}
    """,
    "work.kind": """
        Das Werk {s} ist von dieser Art: {o}
        Das richtige Wort für das Werk {s} ist {o}
        Werk: {s}, Art: {o}
        Kritiker beschreiben das Werk {s} mit dem Wort {o}
        Frage: Von welcher Art ist das Werk {s}? Antwort: {o}
    """,
    "work.language": """
        Die Sprache des Werks {s} ist {o}
        Das Werk {s} entstand auf {o}
        Werk: {s}, Originalsprache: {o}
        Ohne Übersetzung liest man das Werk {s} auf {o}
        Frage: In welcher Sprache entstand das Werk {s}? Antwort: {o}
    """,
    "work.author_country": """
        Das Werk {s} ist ein Kulturgut aus dem Land {o}
        Das Heimatland der Person hinter dem Werk {s} heißt {o}
        Werk: {s}, Land: {o}
        Stolz auf das Werk {s} ist das Land {o}
        Frage: Aus welchem Land stammt das Werk {s}? Antwort: {o}
    """,
}
