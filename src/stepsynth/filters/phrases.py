"""Patterns for the beginnings and ends of letters, and for a model's remarks to the user around a text.

Mainly English; for letters, also the most common words of other languages.
"""

from __future__ import annotations

import re

__all__ = [
    "ALTERNATIVE",
    "ASSENT",
    "BODY_FIELD",
    "EXPLANATION",
    "GREETING",
    "HEADER",
    "LEAVE",
    "OTHER_META",
    "OTHER_OPENER",
    "OTHER_REFUSAL",
    "SIGN_OFF",
    "THOUGHT_ALOUD",
]

_HEADERS = (
    "subject|re|from|to|cc|date|title|headline|betreff|an|von|datum|titel|objet|sujet|titre|asunto|para|título|"
    "oggetto|titolo|assunto|onderwerp|temat|тема|кому|主题|"
    "主題|主旨|标题|件名|제목|konu|"
    "الموضوع|موضوع|נושא|"
    "व\u093fषय|θέμα"
)
_BODIES = (
    "description|body|message|text|contents?|details|comments?|review|feedback|complaint|enquiry|inquiry|beschreibung|"
    "nachricht|inhalt|contenu|texte|descripción|mensaje|texto|contenido|descrizione|messaggio|testo|descrição|mensagem|"
    "beschrijving|bericht|inhoud|beskrivelse|beskrivning|besked|kuvaus|opis|treść|wiadomość|popis|zpráva|"
    "описание|сообщение|текст|描述|内容|正文|説明|本文|설명|내용"
)
_GREETINGS = (
    "dear|hello|hi|hey|greetings|good morning|good afternoon|good evening|good day|to whom it may concern|"
    "sehr geehrte|sehr geehrter|sehr geehrtes|liebe|lieber|liebes|hallo|guten tag|guten morgen|guten abend|bonjour|"
    "bonsoir|madame|monsieur|cher|chère|chers|hola|estimado|estimada|estimados|buenos días|buenas tardes|"
    "buenas noches|ciao|gentile|gentili|salve|buongiorno|buonasera|olá|prezado|prezada|prezados|bom dia|boa tarde|"
    "beste|geachte|hej|szanowni|szanowna|dzień dobry|merhaba|say\u0131n|"
    "здравствуйте|"
    "уважаемый|уважаемая|"
    "уважаемые|"
    "добрый день|"
    "добрый вечер|γεια σας"
)
# For scripts without word boundaries.
_OTHER_GREETINGS = (
    "尊敬的|亲爱的|您好|你好|大家好|こんにちは|お世話にな|안녕하세요|السلام عليكم|مرحبا|عزيزي|سلام|שלום|नमस\u094dत\u0947"
)
_SIGN_OFFS = (
    "regards|best regards|kind regards|warm regards|with kind regards|with best regards|best|best wishes|kind wishes|"
    "sincerely|yours sincerely|yours truly|yours faithfully|thanks|many thanks|thank you|thanks again|"
    "thank you again|thanks in advance|thank you in advance|thanks and regards|cheers|respectfully|"
    "mit freundlichen grüßen|mit besten grüßen|freundliche grüße|viele grüße|"
    "liebe grüße|beste grüße|cordialement|bien cordialement|merci d'avance|saludos|un saludo|atentamente|"
    "cordiali saluti|distinti saluti|atenciosamente|met vriendelijke groet|met vriendelijke groeten|"
    "\u0441 уважением|此致|此致敬礼|谢谢|祝好|敬具"
)
_TEXT = "text|e-?mail|letter|message|review|ticket|example|response|version|sentence|paragraph|sample"
_NAMED = f"{_TEXT}|option|alternative|variant|variation|draft|poem|post|comment|question|answer|dialogue|story|tweet"
_MARKS = r"[*_#(\[\s]{0,6}"

HEADER = re.compile(rf"[*_#\s]{{0,6}}(?:{_HEADERS})[*_\s]{{0,4}}[:\uff1a]", re.IGNORECASE)
# The field that has the text itself.
BODY_FIELD = re.compile(
    rf"(?:(?:full|detailed|support|customer|user|ticket|issue|problem|e-?mail|message|review|post|letter) )?(?:{_BODIES})",
    re.IGNORECASE,
)
GREETING = re.compile(
    rf"[*_\s]{{0,4}}(?:(?:{_GREETINGS})\b(?:[ ,]+[\w.'\u2019/&\[\]-]+){{0,5}} ?(?:[,:!.\u2013\u2014-]|$)[*_]{{0,4}}$"
    rf"|(?:{_OTHER_GREETINGS})[^\n\u3002.!?]{{0,20}}[\u3002.!]?$)",
    re.IGNORECASE,
)
SIGN_OFF = re.compile(rf"[*_\s]{{0,4}}(?:{_SIGN_OFFS}) ?(?:[,!.\uff0c\u2013-]|$)[*_]{{0,4}}$", re.IGNORECASE)
# "Sure!", "Of course. Here you go:"
ASSENT = re.compile(
    r"(?:sure|certainly|of course|absolutely|okay|ok|no problem|got it)(?: thing)?[!,. ]{0,3}"
    r"(?:here (?:you go|it is)|happy to help|i can (?:help|do)\b[^\n]{0,40}|i(?:'d| would) be happy to[^\n]{0,60})?[!.: ]{0,2}",
    re.IGNORECASE,
)
# The second text of an answer ends the first.
ALTERNATIVE = re.compile(
    rf"{_MARKS}(?:{_NAMED}) ?#? ?(?:\d{{1,2}}|[A-D])\b[\])]?[*_ ]{{0,4}}(?:\([^()\n]{{0,40}}\)[*_ ]{{0,4}})?"
    r"(?:[:.)\u2013\u2014-][*_ ]{0,4}|$)",
    re.IGNORECASE | re.MULTILINE,
)
# A model's closing remarks to the user. A customer's closing words in a letter to a firm do not count.
LEAVE = re.compile(
    rf"{_MARKS}(?:(?:i )?hope (?:this|that|it) (?:helps|works|meets|is what|fits)"
    r"|feel free to (?:ask|modify|adjust|edit|customi[sz]e|change|use)"
    r"|(?:please )?let me know if you(?:'d| would)? (?:like|prefer|want|need)\b[^\n]{0,60}\b(?:another|versions?|variations?|"
    r"examples?|adjust\w*|changes?|tweak\w*|modif\w*|revis\w*|different|shorter|longer|more formal|tone|style)"
    r"|would you like (?:me to|another|more|a different)|do you want me to"
    rf"|(?:the|this) (?:{_TEXT}) (?:clearly )?(?:shows|reflects|demonstrates|captures|conveys|expresses|belongs|highlights|fits"
    r"|is (?:an? example|written|labell?ed|classified|intended|meant|designed|categori[sz]ed)"
    r"|would be (?:labell?ed|classified)))\b"
    rf"|{_MARKS}(?:notes?|disclaimer)[*_\s]{{0,4}}:[^\n]{{0,200}}\b(?:{_TEXT})\b",
    re.IGNORECASE,
)
# A model thinking aloud about its task before or instead of writing. "We need to create a new account" is a valid text.
_TASK = rf"(?:{_TEXT}s?|label(?:led|ed)?|category|categories|examples|samples|reviews|tickets|prompt|instruction|dataset)"
THOUGHT_ALOUD = re.compile(
    r"^(?:(?:okay|ok|alright|all right|hm{1,5}|so|well|right|first|now)[,.!\u2026: ]{1,5}){0,3}(?:"
    r"the user (?:wants|asks|asked|is asking|has asked|needs|requests|requested|is looking for)\b"
    rf".{{0,160}}?\b(?:{_TASK}|write|me to)\b"
    r"|(?:we|i) (?:need|have|should|must|'ll|will|want|am supposed|am asked)(?: to)? "
    r"(?:write|produce|generate|create|craft|compose|come up with|output|think of)\b"
    rf"[^.\n]{{0,60}}?\b{_TASK}\b"
    r"|let(?:'s| me| us) (?:think|write|craft|generate|create|come up with|start by|brainstorm)\b"
    rf".{{0,160}}?\b(?:{_TASK}|the user)\b)",
    re.IGNORECASE | re.DOTALL,
)
# A heading after which a model talks about its text.
EXPLANATION = re.compile(
    rf"{_MARKS}(?:explanation|rationale|reasoning|why (?:this|it) works|analysis|key (?:features|points|elements)|word count"
    r"|(?<=[*_#])(?:category|label|tone|notes?|tags?))[*_\s]{0,4}:",
    re.IGNORECASE,
)
# "Here is an example:" in other languages; only phrases that cannot begin a valid text.
_NOUNS = (
    "beispiel|text|satz|rezension|nachricht|exemple|texte|phrase|avis|message|ejemplo|texto|frase|reseña|mensaje|esempio"
    "|testo|recensione|messaggio|exemplo|resenha|mensagem|текст|текста|отзыв|отзыва"
)
OTHER_OPENER = re.compile(
    r"^(?:(?:hier ist|voici|aquí (?:tienes|está|hay)|ecco|aqui está|вот) (?:eine?|une?|una|uma?|пример)\b"
    rf"[^\n:.!?]{{0,80}}\b(?:{_NOUNS})\b[^\n:.!?]{{0,80}}:"
    r"|(?:好的|当然可以|当然|没问题)?[\uff0c\u3002,!\uff01 ]{0,2}(?:以下是|下面是)[^\n:\uff1a\u3002]{0,40}[:\uff1a]"
    r"|以下[はに][^\n:\uff1a\u3002]{0,40}[:\uff1a])\s*",
    re.IGNORECASE,
)
# The most common refusals in other languages, with the verb of the request: "I cannot log in" is a valid text.
OTHER_REFUSAL = re.compile(
    r"^(?:als (?:ki|sprachmodell)\b|es tut mir leid, aber ich kann (?:diese[rn]?|dabei|ihnen dabei|das) (?:\w+ )?(?:nicht|keine)"
    r"|je suis désolée?,? mais je ne peux pas (?:vous aider|aider|répondre|écrire|fournir|générer)"
    r"|en tant que (?:modèle|ia\b)|lo siento, (?:pero )?no puedo (?:ayudar|cumplir|escribir|generar|proporcionar|crear)"
    r"|como (?:un )?modelo de (?:lenguaje|linguagem)|mi dispiace, ma non posso (?:aiutar|scrivere|fornire|generare|creare)"
    r"|come modello (?:di linguaggio|linguistico)|desculpe, mas não posso (?:ajudar|escrever|fornecer|gerar|criar)"
    r"|извините, (?:но )?я не могу (?:помочь|написать|создать)"
    r"|(?:很)?(?:抱歉|对不起)[\uff0c,]我(?:无法|不能)(?:提供|帮助|协助|生成|撰写|写|回答|满足)"
    r"|作为(?:一个|一款)?(?:ai|人工智能|语言模型)"
    r"|申し訳(?:ありません|ございません)が\u3001(?:その|この)(?:ご)?(?:リクエスト|要望|依頼))",
    re.IGNORECASE,
)
OTHER_META = re.compile(
    r"(?:这段|这句|该)(?:文本|文字|话|评论)属于|dieser (?:text|satz) (?:gehört|ist ein beispiel)"
    r"|(?:ce texte|cette phrase) (?:appartient|est un exemple)",
    re.IGNORECASE,
)
