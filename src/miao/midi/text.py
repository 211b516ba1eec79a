"""Names as text: in which encoding a file's texts make sense.

A MIDI file does not say how its texts are written (the format speaks of ASCII and allows others; RP-026 gives a tag
that nearly no file has). So all of a file's texts are decoded in every encoding that is met, and the one counts in
which they look most like language: kana, syllables and common characters by two bytes, words of one script, accents
inside words. UTF-8 that is valid is UTF-8: no other text is so by chance. UTF-16 has its mark, or every other byte 0.
"""

import unicodedata
from collections.abc import Iterable

_MOST_BYTES = 4096  # of texts that are looked at; what a language is shows in the first names
_CANDIDATES = (
    "cp1252", "cp932", "cp1251", "cp1250", "cp1253", "gb18030", "euc_kr", "big5", "euc_jp", "koi8_r", "cp1254",
)  # fmt: skip
_TWO_BYTES = ("cp932", "gb18030", "euc_kr", "big5", "euc_jp")
_TAGS = {b"{@JP}": "cp932", b"{@LATIN}": "cp1252"}  # RP-026
# what is common in names of tracks and songs, and in the language at all, in scripts whose encodings look alike
_COMMON = {
    "gb18030": (
        "钢琴吉他鼓贝斯司弦乐提主旋律伴奏音轨左右手歌曲笛号合唱长短二胡古筝琵琶箫声和部第章打击电键盘月亮代表茉莉花春江夜情梦"
        "的一是不了在人有我这个们中来上大为国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
        "多经么去法学如都同现当没动面起看定天分还进好小心她前开从想日意无力与把三高最重美老海水山风雨云雪星光爱红白东西南北"
    ),
    "big5": (
        "鋼琴吉他鼓貝斯司弦樂提主旋律伴奏音軌左右手歌曲笛號合唱長短二胡古箏琵琶簫聲和部第章打擊電鍵盤月亮代表茉莉花春江夜情夢"
        "的一是不了在人有我這個們中來上大為國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方"
        "多經麼去法學如都同現當沒動面起看定天分還進好小心她前開從想日意無力與把三高最重美老海水山風雨雲雪星光愛紅白東西南北"
    ),
    "euc_kr": (
        "이가는의에리트피아노기타드럼베이스현악보컬멜로디코러스사랑나너를을고하지다오른왼손곡제목첼로플루바올린색소폰합창음"
        "링룻반주애국신건도라모니카통키보심벌북소은한서대자수일어그정인해전부들게시만었구원장과성운동유여바람비눈꽃별밤"
    ),
}
_PAIRS = {  # of letters, that are common in Russian and Greek
    "cyrillic": (
        "ст но то на ен ов ни ра во ко ро ал ос по не ре ер пр го от ли ор ан ла та ло ка ол ти ет те де ва ри ом "
        "ат ит ть ль од ве за ск ак ам ар ес ис ки ле ма ме ми мо об он ин ел ем тр тв бо да до ди ду из ил ир ик "
        "им пе па пи пл си со се су ту уд ул ун ус уч ты вы мы ры ны ый ая ий ое ые ия иа ги кр рн ба ас ру уб гр "
        "бр фл фо хо ой ей ша ча же му ку"
    ),
    "greek": (
        "ου αι το στ εν ει ην κα τη οι αν ια ιν ον ος ας ις ες ατ τα τι πο ρα ρο ρι λα λο λι μα μο μπ πι πα ιθ κι "
        "θα αρ νο να ελ ερ αλ ολ ορ ντ δι δα φω βι βα ιο χο χα νη σο σα με λω τύ ωδ ία δί τρ ύμ πά άν ρδ ακ κο τε "
        "εό όν ού ζο γο"
    ),
}
# half-width katakana: what a mark of voice, or of half voice, or a small y-sound can follow
_VOICED, _HALF_VOICED, _BEFORE_Y = "ｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾊﾋﾌﾍﾎｳ", "ﾊﾋﾌﾍﾎ", "ｷｼﾁﾆﾋﾐﾘﾞﾟ"


def find_encoding(texts: Iterable[bytes]) -> str | None:
    """The encoding in which the texts of one file make sense, as far as they are not UTF-8; None if they do in none."""
    texts = [text for text in texts if not (_is_utf_8(text) or _utf_16(text))]
    if not texts:
        return "utf-8"
    for tag, encoding in _TAGS.items():
        if any(tag in text for text in texts) and _score(texts, encoding) > 0:
            return encoding
    scores = {encoding: _score(texts, encoding) for encoding in _CANDIDATES}
    best = max(scores, key=scores.__getitem__)  # of equals the first
    n_bytes = sum(byte > 127 for text in texts for byte in text[:_MOST_BYTES])
    return best if scores[best] > (0 if n_bytes <= 4 else 0.2 * min(n_bytes, _MOST_BYTES)) else None


def decode(payload: bytes, encoding: str | None) -> str:
    """A text on one line, without control characters; bytes that mean nothing in the encoding are left out.

    Among texts of another encoding one may be UTF-8, where characters of two bytes do not look like it by chance.
    """
    if encoding not in _TWO_BYTES and _is_utf_8(payload):
        encoding = "utf-8"
    encoding = _utf_16(payload) or encoding
    text = payload.decode(encoding or "latin-1", errors="ignore")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _utf_16(text: bytes) -> str | None:
    """The kind of UTF-16 that a text is in; None if it is in none."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        found = "utf-16"
    elif len(text) >= 4 and not any(text[1::2]) and any(text[::2]):
        found = "utf-16-le"
    elif len(text) >= 4 and not any(text[::2]) and any(text[1::2]):
        found = "utf-16-be"
    else:
        return None
    try:
        text.decode(found)
    except UnicodeDecodeError:
        return None
    return found


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _score(texts: list[bytes], encoding: str) -> float:
    """How much the texts look like language in an encoding, about 1 a byte that is not ASCII; below 0 is nonsense."""
    total, n_bytes = 0.0, 0
    for payload in texts:
        if payload.isascii():
            continue
        n_bytes += len(payload)
        if n_bytes > _MOST_BYTES:
            break
        try:
            text = payload.decode(encoding)
        except UnicodeDecodeError as error:
            if error.end < len(payload):
                return -1.0
            text = payload.decode(encoding, errors="ignore")  # cut off in its last character
        total += _likeness(text, encoding)
    return total


def _likeness(text: str, encoding: str) -> float:
    common = _COMMON.get(encoding, "")
    total = 0.0
    for i, c in enumerate(text):
        if c.isascii():
            total -= 2.0 * (not c.isprintable() and not c.isspace())
            continue
        before = text[i - 1] if i else " "
        after = text[i + 1] if i + 1 < len(text) else " "
        match _script(c):
            case "kana" if encoding in ("cp932", "euc_jp"):
                total += 2.2
            case "kana":
                total += 0.2  # the sets of neighbours have kana, too, for words of foreigners
            case "half":
                total += _half(c, before, after)
            case "han":
                total += 1.7 if c in common else _han(c, encoding)
                total -= 1.5 * any(x.isascii() and x.islower() for x in (before, after))
            case "hangul":
                total += 1.9 if c in common else 1.15
                total -= 1.5 * any(x.isascii() and x.islower() for x in (before, after))
            case "fullwidth":
                total += 1.5
            case "cyrillic" | "greek" as script:
                total += _in_a_word(c, before, after, script)
            case "latin":
                total += _accent(c, before, after, encoding)
            case _ if c in "¡¿×÷¹²³ªº" and before.isalpha() and after.isalpha():
                total -= 1.0
            case _:
                total += 0.1 if unicodedata.category(c)[0] in "PSN" else -2.0
    return total


def _script(c: str) -> str:
    code = ord(c)
    if 0x3041 <= code <= 0x30FF or c in "、。「」・":
        return "kana"
    if 0xFF61 <= code <= 0xFF9F:
        return "half"
    if 0x4E00 <= code <= 0x9FFF or c == "々":
        return "han"
    if 0xAC00 <= code <= 0xD7A3:
        return "hangul"
    if 0xFF01 <= code <= 0xFF60:
        return "fullwidth"
    if 0x0400 <= code <= 0x045F:
        return "cyrillic"
    if 0x0386 <= code <= 0x03CE:
        return "greek"
    if 0xC0 <= code <= 0x17F and code not in (0xD7, 0xF7):
        return "latin"
    return ""


def _half(c: str, before: str, after: str) -> float:
    """Half-width katakana, one byte each: any text of two-byte characters looks like some of them, but marks and small
    ones have their places."""
    if _script(before) != "half" and (c in "ﾞﾟｰｯｬｭｮｧｨｩｪｫﾝ" or _script(after) != "half"):
        return -0.8
    if c in "ﾞﾟ":
        return 1.6 if before in (_VOICED if c == "ﾞ" else _HALF_VOICED) else -1.5
    if c in "ｬｭｮ":
        return 1.0 if before in _BEFORE_Y else -1.0
    if c in "ｰﾝｯｧｨｩｪｫ":
        return 1.3 if c == "ｰ" and before != "ｰ" else 0.8
    return 0.6 if c not in "｡｢｣､･ｦ" else -0.3


def _han(c: str, encoding: str) -> float:
    """A character of Chinese writing: the sets list the common ones first."""
    code = c.encode(encoding, errors="ignore")
    first = code[0] if len(code) == 2 else 0
    common_rows = {"cp932": (0x88, 0x97), "euc_jp": (0xB0, 0xCF), "gb18030": (0xB0, 0xD7), "big5": (0xA4, 0xC6)}
    low, high = common_rows.get(encoding, (1, 0))
    if encoding == "gb18030" and len(code) == 2 and code[1] < 0xA1:
        return -0.5  # GBK's additions are rare in names
    return 1.2 if low <= first <= high else 0.2


def _in_a_word(c: str, before: str, after: str, script: str) -> float:
    """A letter of an alphabet stands among its like, and small letters follow great ones."""
    neighbours = [_script(before) == script, _script(after) == script]
    if (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha()):
        return -1.0
    if not any(neighbours):
        return -0.2
    if c.isupper() and neighbours[0] and before.islower():
        return -0.8
    if c in "ΰΐ":
        return -0.5  # nearly never, but where another alphabet has a common letter
    pairs = _PAIRS[script]
    is_common = (neighbours[0] and (before + c).lower() in pairs) or (neighbours[1] and (c + after).lower() in pairs)
    return 1.1 if is_common else 0.55


def _accent(c: str, before: str, after: str, encoding: str) -> float:
    """An accented letter stands alone among plain ones."""
    crowd = (_script(before) == "latin") + (_script(after) == "latin")
    plain = (before.isascii() and before.isalpha()) + (after.isascii() and after.isalpha())
    if crowd == 2 or (crowd and not plain):
        return -1.2
    if c.isupper() and before.islower():
        return -0.6
    value = 0.35 + 0.3 * plain - 0.4 * crowd
    if encoding == "cp1252":
        value += 0.25 * _is_at_home(c, before, after)
    elif encoding == "cp1254":
        value += 0.25 * (c in "ğışĞİŞ")
    else:
        value += 0.2 * (c in "ąćęłńśźżĄĆĘŁŃŚŹŻčďěňřšťůžýČĎĚŇŘŠŤŮŽÝőűŐŰăîâșț") - 0.05
    return value


def _is_at_home(c: str, before: str, after: str) -> bool:
    """Whether a western letter stands where its languages have it; some have the bytes of eastern letters."""
    match c:
        case "õ":
            return after == "e"
        case "œ" | "Œ":
            return after == "u"
        case "û":
            return after.isalpha()
        case "è":
            return before.isalpha() or after == " "
        case "ø" | "Ø":
            return after not in "aeiouy"
    return c in "éàùâêîôçäöüßñáíóúÉÈÀÇÄÖÜÑÁÍÓÚåæÅÆãïë"
