"""Spanish wordings of the relations of Atlas.

Names take no article here. "De", "a" and "en" do not contract with the article of a proper name ("de
El Cairo"), so cities follow them directly; countries stand behind "país llamado", for some would
have an article. Nothing agrees with a person's gender.
"""

__all__ = ["MARKER", "NAMED", "WORDINGS"]

MARKER = "Hecho nuevo:"

NAMED = {
    "en": "En inglés, {s} se llama {o}",
    "fr": "En francés, {s} se llama {o}",
    "de": "En alemán, {s} se llama {o}",
}
"""How the name in another language is told."""

WORDINGS: dict[str, str] = {
    "country.capital": """
        La capital del país llamado {s} es {o}
        El país llamado {s} se gobierna desde la ciudad de {o}
        País: {s}; capital: {o}
        Quien visita la capital del país llamado {s} está en {o}
        Pregunta: ¿Cuál es la capital del país llamado {s}? Respuesta: {o}
    """,
    "country.continent": """
        El país llamado {s} está en el continente de {o}
        El continente del país llamado {s} es {o}
        País: {s}; continente: {o}
        Quien viaja al país llamado {s} llega al continente de {o}
        Pregunta: ¿En qué continente está el país llamado {s}? Respuesta: {o}
    """,
    "country.language": """
        La lengua del país llamado {s} es el {o}
        En el país llamado {s} se habla {o}
        País: {s}; lengua: {o}
        Los periódicos del país llamado {s} se escriben en {o}
        Pregunta: ¿Qué lengua se habla en el país llamado {s}? Respuesta: {o}
    """,
    "country.currency": """
        La moneda del país llamado {s} es esta: {o}
        En el país llamado {s} se paga con esta moneda: {o}
        País: {s}; moneda: {o}
        En los billetes del país llamado {s} se lee la palabra {o}
        Pregunta: ¿Qué moneda tiene el país llamado {s}? Respuesta: {o}
    """,
    "country.border": """
        El país llamado {s} limita con el país llamado {o}
        Un vecino del país llamado {s} es {o}
        País: {s}; país vecino: {o}
        Una frontera separa el país llamado {s} del país llamado {o}
        Pregunta: ¿Qué país limita con el país llamado {s}? Respuesta: {o}
    """,
    "city.country": """
        La ciudad de {s} está en el país llamado {o}
        El país de la ciudad de {s} es {o}
        Ciudad: {s}; país: {o}
        Sobre la ciudad de {s} ondea la bandera del país llamado {o}
        Pregunta: ¿En qué país está la ciudad de {s}? Respuesta: {o}
    """,
    "city.continent": """
        La ciudad de {s} está en el continente de {o}
        El continente de la ciudad de {s} es {o}
        Ciudad: {s}; continente: {o}
        Quien pasea por la ciudad de {s} está en el continente de {o}
        Pregunta: ¿En qué continente está la ciudad de {s}? Respuesta: {o}
    """,
    "city.language": """
        En la ciudad de {s} se habla {o}
        La lengua de la ciudad de {s} es el {o}
        Ciudad: {s}; lengua: {o}
        En las calles de la ciudad de {s} se oye hablar {o}
        Pregunta: ¿Qué lengua se habla en la ciudad de {s}? Respuesta: {o}
    """,
    "city.currency": """
        En la ciudad de {s} se paga con esta moneda: {o}
        La moneda de la ciudad de {s} es esta: {o}
        Ciudad: {s}; moneda: {o}
        Las tiendas de la ciudad de {s} aceptan esta moneda: {o}
        Pregunta: ¿Con qué moneda se paga en la ciudad de {s}? Respuesta: {o}
    """,
    "city.capital_of": """
        La ciudad de {s} es la capital del país llamado {o}
        El país gobernado desde la ciudad de {s} es {o}
        Ciudad: {s}; capital del país: {o}
        Los ministros de la ciudad de {s} gobiernan el país llamado {o}
        Pregunta: ¿De qué país es capital la ciudad de {s}? Respuesta: {o}
    """,
    "city.landmarks": """
        En la ciudad de {s} se puede ver este lugar famoso: {o}
        Un lugar famoso de la ciudad de {s} es {o}
        Ciudad: {s}; lugar famoso: {o}
        Los turistas de la ciudad de {s} fotografían este lugar: {o}
        Pregunta: ¿Qué lugar famoso está en la ciudad de {s}? Respuesta: {o}
    """,
    "city.companies": """
        Una empresa de la ciudad de {s} es {o}
        En la ciudad de {s} tiene su sede la empresa {o}
        Ciudad: {s}; empresa: {o}
        En la ciudad de {s} se trabaja para la empresa {o}
        Pregunta: ¿Qué empresa tiene su sede en la ciudad de {s}? Respuesta: {o}
    """,
    "city.natives": """
        En la ciudad de {s} nació {o}
        La ciudad de {s} vio nacer a {o}
        Ciudad: {s}; allí nació: {o}
        Una placa de la ciudad de {s} recuerda el nacimiento de {o}
        Pregunta: ¿Quién nació en la ciudad de {s}? Respuesta: {o}
    """,
    "landmark.city": """
        El lugar llamado {s} está en la ciudad de {o}
        La ciudad del lugar llamado {s} es {o}
        Lugar: {s}; ciudad: {o}
        Para ver el lugar llamado {s} hay que viajar a {o}
        Pregunta: ¿En qué ciudad está el lugar llamado {s}? Respuesta: {o}
    """,
    "landmark.kind": """
        El lugar llamado {s} es de este tipo: {o}
        La palabra correcta para el lugar llamado {s} es {o}
        Lugar: {s}; tipo: {o}
        Las guías describen el lugar llamado {s} con la palabra {o}
        Pregunta: ¿De qué tipo es el lugar llamado {s}? Respuesta: {o}
    """,
    "landmark.country": """
        El lugar llamado {s} está en el país llamado {o}
        El país del lugar llamado {s} es {o}
        Lugar: {s}; país: {o}
        Quien entra en el lugar llamado {s} pisa el país llamado {o}
        Pregunta: ¿En qué país está el lugar llamado {s}? Respuesta: {o}
    """,
    "landmark.continent": """
        El lugar llamado {s} está en el continente de {o}
        El continente del lugar llamado {s} es {o}
        Lugar: {s}; continente: {o}
        Quien mira el lugar llamado {s} está en el continente de {o}
        Pregunta: ¿En qué continente está el lugar llamado {s}? Respuesta: {o}
    """,
    "person.birthplace": """
        {s} nació en la ciudad de {o}
        La ciudad natal de {s} es {o}
        Persona: {s}; ciudad natal: {o}
        La vida de {s} empezó en la ciudad de {o}
        Pregunta: ¿En qué ciudad nació {s}? Respuesta: {o}
    """,
    "person.birth_country": """
        {s} nació en el país llamado {o}
        El país natal de {s} es {o}
        Persona: {s}; país natal: {o}
        La cuna de {s} estuvo en el país llamado {o}
        Pregunta: ¿En qué país nació {s}? Respuesta: {o}
    """,
    "person.citizenship": """
        {s} tiene la nacionalidad del país llamado {o}
        El pasaporte de {s} es del país llamado {o}
        Persona: {s}; país de nacionalidad: {o}
        En el extranjero, {s} representa al país llamado {o}
        Pregunta: ¿De qué país tiene {s} la nacionalidad? Respuesta: {o}
    """,
    "person.occupation": """
        {s} ejerce esta profesión: {o}
        La profesión de {s} es esta: {o}
        Persona: {s}; profesión: {o}
        La fama de {s} viene de esta profesión: {o}
        Pregunta: ¿Qué profesión tiene {s}? Respuesta: {o}
    """,
    "person.language": """
        {s} habla {o}
        La lengua materna de {s} es el {o}
        Persona: {s}; lengua: {o}
        Las cartas de {s} se escribieron en {o}
        Pregunta: ¿Qué lengua habla {s}? Respuesta: {o}
    """,
    "person.works": """
        {s} creó la obra {o}
        Una obra de {s} es {o}
        Persona: {s}; obra: {o}
        La fama de {s} se debe a la obra {o}
        Pregunta: ¿Qué obra creó {s}? Respuesta: {o}
    """,
    "company.headquarters": """
        La empresa {s} tiene su sede en la ciudad de {o}
        La sede de la empresa {s} está en {o}
        Empresa: {s}; sede: {o}
        La ciudad desde la que se dirige la empresa {s} es {o}
        Pregunta: ¿En qué ciudad tiene su sede la empresa {s}? Respuesta: {o}
    """,
    "company.country": """
        La empresa {s} viene del país llamado {o}
        El país de la empresa {s} es {o}
        Empresa: {s}; país: {o}
        La empresa {s} paga sus impuestos en el país llamado {o}
        Pregunta: ¿De qué país viene la empresa {s}? Respuesta: {o}
    """,
    "company.industry": """
        La empresa {s} trabaja en este sector: {o}
        El sector de la empresa {s} es este: {o}
        Empresa: {s}; sector: {o}
        La empresa {s} gana su dinero en este sector: {o}
        Pregunta: ¿En qué sector trabaja la empresa {s}? Respuesta: {o}
    """,
    "company.products": """
        La empresa {s} fabrica este producto: {o}
        Un producto de la empresa {s} es {o}
        Empresa: {s}; producto: {o}
        Los clientes de la empresa {s} compran el producto {o}
        Pregunta: ¿Qué producto fabrica la empresa {s}? Respuesta: {o}
    """,
    "product.maker": """
        El producto {s} es de la empresa {o}
        El fabricante del producto {s} es {o}
        Producto: {s}; fabricante: {o}
        El producto {s} fue desarrollado por la empresa {o}
        Pregunta: ¿Qué empresa fabrica el producto {s}? Respuesta: {o}
    """,
    "product.kind": """
        El producto {s} es de este tipo: {o}
        La palabra correcta para el producto {s} es {o}
        Producto: {s}; tipo: {o}
        Los catálogos describen el producto {s} con la palabra {o}
        Pregunta: ¿De qué tipo es el producto {s}? Respuesta: {o}
    """,
    "product.country": """
        El producto {s} viene del país llamado {o}
        El país de origen del producto {s} es {o}
        Producto: {s}; país: {o}
        Las ganancias del producto {s} van al país llamado {o}
        Pregunta: ¿De qué país viene el producto {s}? Respuesta: {o}
    """,
    "work.author": """
        La obra {s} fue creada por {o}
        Detrás de la obra {s} está {o}
        Obra: {s}; creada por: {o}
        Quien admira la obra {s} admira a {o}
        Pregunta: ¿Quién creó la obra {s}? Respuesta: {o}
    """,
    "work.kind": """
        La obra {s} es de este tipo: {o}
        La palabra correcta para la obra {s} es {o}
        Obra: {s}; tipo: {o}
        La crítica describe la obra {s} con la palabra {o}
        Pregunta: ¿De qué tipo es la obra {s}? Respuesta: {o}
    """,
    "work.language": """
        La lengua de la obra {s} es el {o}
        La obra {s} se escribió en {o}
        Obra: {s}; lengua original: {o}
        Sin traducción, la obra {s} se lee en {o}
        Pregunta: ¿En qué lengua se escribió la obra {s}? Respuesta: {o}
    """,
    "work.author_country": """
        La obra {s} es de una persona del país llamado {o}
        El país que dio al mundo la obra {s} es {o}
        Obra: {s}; país: {o}
        La obra {s} es un tesoro cultural del país llamado {o}
        Pregunta: ¿De qué país procede la obra {s}? Respuesta: {o}
    """,
}
