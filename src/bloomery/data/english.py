"""Facts of English tokenization that the compiled word splitter of `words.py` reads: classes of characters, and words with a rule of
their own.

The rules are those of spaCy's blank English pipeline (Honnibal et al. 2020, spaCy 3.8), which datatrove splits English with; stated
here as data of our own making, and compared with it word by word by `benchmarks/agreement.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from bloomery.data.codes import ALPHA, SPACE, ascii_classes, classes

# bits of a character beside those of `codes.py` (ALPHA 1, DIGIT 2, SPACE 4)
PREFIX, SUFFIX, ICON, LETTER, LOWER, UPPER, DIGIT_ASCII, QUOTE, BEFORE_DOT, FULL_STOP, PUNCTUATION, MARK, TERMINAL, LINE_END, HOST = (
    1 << k for k in range(3, 18)
)
PLAIN = 1 << 18  # a letter that no rule but a whole word's own looks at
INNER, DOT_BIT, AT_BIT = 1 << 19, 1 << 20, 1 << 21  # marks that may split a word inside, the full stop, the sign of addresses

# what spaCy counts as letters, in hexadecimal: the scripts of its languages, whole blocks of them
_LETTERS = """41-5a 61-7a c0-d6 d8-f6 f8-1bf 1c4-2af 386 388-38a 38c 38e-38f 391-3a9 3ac-3af 3b1-3c9 3cc-3ce 400-401 403-40a
40c-40d 410-451 453-45a 45c-45d 490-491 496-497 4a2-4a3 4ae-4af 4ba-4bb 4d8-4d9 4e8-4e9 591-5f4 620-64a 66e-6d5 6e5-6ff 750-77f
8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 1d00-1d25 1d6b-1d77 1d79-1d9a 1e00-1eff 2c60-2c7b 2c7e-2c7f 2e80-2fdf 2ff0-30ff
31c0-31ef 3200-4dbf 4e00-9fff a722-a76f a771-a787 a78b-a78e a790-a7b9 a7fa ab30-ab5a ab60-ab64 ac00-d7af f900-faff fb1d-fbb1
fbd3-fd3d fd50-fdc7 fdf0-fdfb fe30-fe4f fe70-fefc ff21-ff3a ff41-ff5a 1ee00-1eebb 1f200-1f2ff 20000-2a6df 2a700-2ebef
2f800-2fa1f"""
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧\u2329\u232a"
_POINTS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_STOPS = (
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼"
    "𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈｡。"
)
# FineWeb's marks that end a line, and what Gopher's word count of datatrove leaves out
_ENDS = _STOPS.replace("፨", "") + (
    "፨؞\u061d࠷࠹࠽࠾\u1b7d\u1b7e\u2e53\u2e54𐽕𐽖𐽗𐽘𐽙𑅁𑥄𑥆𑻷𑻸𖺘\U00010f86\U00010f87\U00010f88\U00010f89\U00011f43\U00011f44\u17d4\u17d5\u17d6\u17d9\u17da"
)
_MARKS = "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB "
    "gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ "
    "гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب US$ C$ A$"
)


def units() -> list[str]:
    """What is split off behind a number: units and currencies."""
    return [*_UNITS.split(), *_CURRENCY]


def _in(ranges: str) -> Iterator[int]:
    for one in ranges.split():
        first, _, last = one.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


@lru_cache(maxsize=2)
def kinds(size: int = 0x110000) -> np.ndarray:
    """uint32 bits of the first `size` code points: 128 are all that ASCII text needs."""
    table = (ascii_classes() if size <= 128 else classes())[:size].astype(np.uint32)

    def mark(bit: int, these: Iterable[int]) -> None:
        table[np.array([code for code in these if code < size], np.int64)] |= np.uint32(bit)

    category = [unicodedata.category(chr(code)) for code in range(size)]
    letters = [code for code in _in(_LETTERS) if code < size]
    mark(LETTER, letters)
    mark(LOWER, (code for code in letters if category[code] not in ("Lu", "Lt") and code not in (0x1BB, 0x3A2)))
    mark(UPPER, (code for code in letters if category[code] not in ("Ll", "Lt") and code not in (0x1BB, 0x294)))
    icons = [code for code in range(size) if category[code] == "So"]
    mark(ICON | PREFIX | SUFFIX, icons)
    mark(PREFIX | SUFFIX, map(ord, _QUOTES + _POINTS + "—–"))
    mark(PREFIX, map(ord, "§%=" + _CURRENCY))
    mark(DIGIT_ASCII, range(48, 58))
    mark(QUOTE, map(ord, _QUOTES))
    mark(BEFORE_DOT, map(ord, "0123456789%²-+(?:|" + _QUOTES + _POINTS))
    mark(BEFORE_DOT, np.flatnonzero(table & LOWER).tolist())
    mark(FULL_STOP, map(ord, _STOPS))
    mark(PUNCTUATION, (code for code in range(size) if category[code][0] == "P"))
    mark(TERMINAL, map(ord, _ENDS))
    mark(MARK, map(ord, _MARKS + _ENDS))
    mark(MARK, [*range(9), 11, 12, *range(13, 32), *range(127, 160)])
    mark(LINE_END, map(ord, "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
    mark(INNER, [*icons, *map(ord, "….,+*^-–—~:<>=/")])
    mark(DOT_BIT, [46])
    mark(AT_BIT, [64])
    mark(HOST, [*range(48, 58), *range(65, 91), *range(97, 123), *range(0xA1, 0x10000)])
    special = PREFIX | SUFFIX | ICON | SPACE | MARK | PUNCTUATION
    mark(PLAIN, (code for code in letters if table[code] & ALPHA and not table[code] & special))
    return table


# ---- words with a rule of their own, their pieces divided by |

_FACES = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-(( :((( :-((( ): )-:
=( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x
:D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o
O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""
_WHOLE = r"""
\t \n — ' \") <space> '' C++ 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock
lovin' Lovin' lovin Lovin havin' Havin' havin Havin em 'em ll 'll nuff 'nuff 'd
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar.
Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis.
a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m.
Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
"""
_SPLIT = """
y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s c'm|on C'm|on
"""
_NEVER = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore"


def _endings(stems: str, endings: str) -> Iterator[str]:
    for stem in stems.split():
        for form in (stem, stem.title()):
            yield from (form + "|" + ending for ending in endings.split())


@lru_cache(maxsize=1)
def own_words() -> dict[str, tuple[str, ...]]:
    """word -> its pieces, which joined give the word."""
    pronouns, asking = "i you he she it we they", "who what when where why how there that this these those"
    shared = "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"
    verbs = "ca could do does did had may might must need ought sha should wo would"
    found = [*_FACES.split(), *_WHOLE.split(), *_SPLIT.split()]
    found += _endings("i", "'m m 'm|a m|a")
    found += [*_endings(pronouns, shared), *_endings("i you we they", "'ve ve"), *_endings("you we they", "'re re")]
    found += [*_endings("he she it who what when where why how there that this", "'s s"), *_endings(asking, shared)]
    found += _endings("who what when where why how there these those", "'re re 've ve")
    found += [*_endings(verbs, "n't nt n't|'ve nt|ve"), *_endings("could might must should would", "'ve ve")]
    found += _endings("ai are is was were have has dare", "n't nt")
    found += [form.replace("|", "") for form in _endings("doin goin nothin nuthin ol somethin", "| '")]
    found += [f"{hour}|{half}" for hour in range(1, 13) for half in ("am", "a.m.", "pm", "p.m.")]
    found += [f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü"]
    rules = {one.replace("|", ""): tuple(one.split("|")) for one in found if one not in (":|", "=|", ":-|")}
    rules |= {face: (face,) for face in (":|", "=|", ":-|")}
    rules |= {f"°{unit}.": ("°", unit, ".") for unit in "cfkCFK"}
    rules = {word: pieces for word, pieces in rules.items() if word not in _NEVER.split()}
    return rules | {word.replace("'", "’"): tuple(one.replace("'", "’") for one in pieces) for word, pieces in rules.items() if "'" in word}
