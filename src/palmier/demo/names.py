"""The words of the small world: inventories that the grammar, the requests and the judge share.

Open classes (people, subjects, things) are products of parts, so that a held-out name is new
as a whole while its parts are known: copying it is a skill, not a memory. Closed classes
(towns, days, colours and so on) are small and known to every split.
"""

from __future__ import annotations


def _list(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list."""
    return tuple(entry.strip() for entry in text.split(","))


_FIRST = _list("Bel,Cor,Dan,El,Fen,Gar,Hal,Ir,Jun,Kel,Lor,Mar,Nim,Or,Pel,Quin,Ros,Sel,Tav,Ul,Ver,Wil,Yar,Zan")
_VOWELS = _list("a,e,i,o,u")
_LAST = _list("bran,din,far,lin,mor,neth,ric,son,tor,va,wen,za")
PEOPLE = tuple(first + vowel + last for first in _FIRST for vowel in _VOWELS for last in _LAST)
"""1440 first names such as Kelaneth."""

_MODIFIERS = _list(
    "garden,school,harbour,market,village,winter,kitchen,river,forest,church,station,summer,castle,"
    "mountain,island,library,tower,meadow,cellar,stable,bakery,theatre,museum,orchard,valley,farm"
)
_HEADS = _list(
    "fence,roof,party,key,bench,door,lamp,map,clock,bell,gate,wall,choir,concert,stove,cart,picnic,"
    "chair,window,bridge,sign,table,boat,well,path"
)
SUBJECTS = tuple(f"{modifier} {head}" for modifier in _MODIFIERS for head in _HEADS)
"""650 subjects of e-mails such as "garden fence"."""

_THING_FIRST = _list("glim,bor,trab,snor,plin,dwob,frem,grun,klep,mib,nov,pren,quib,rast,skol,twin,vorl,wust,yomp,zeb")
_THING_LAST = _list("met,bin,kin,lug,sel,wick,pot,nar")
THING_NAMES = tuple(first + last for first in _THING_FIRST for last in _THING_LAST)
"""160 invented things such as "glimmet"."""

TOWNS = tuple(
    first + last
    for first in _list("Ald,Bray,Chal,Dun,Esk,Fal,Hex,Lang,Mer,Thorn")
    for last in _list("ham,ford,wick,ton")
)
DAYS = _list("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday")
MONTHS = _list("January,February,March,April,May,June,July,August,September,October,November,December")
COLOURS = _list("red,blue,green,yellow,white,black,brown,grey,orange,purple")
TRADES = _list("baker,miller,teacher,sailor,farmer,painter,tailor,doctor,smith,gardener,singer,clerk")

KINDS = _list(
    "lamp,hat,drum,flute,cup,kite,spoon,basket,blanket,whistle,ladder,box,broom,coat,ring,net,pipe,rope,"
    "stool,bag,candle,comb,fan,brush"
)
"""What a thing is: "a glimmet is a lamp"."""

MATERIALS = _list(
    "blue glass,red clay,old wood,white wool,green paper,black stone,soft leather,thin silver,yellow straw,"
    "grey felt,dry reed,smooth bone,hard iron,brown cork,light tin,warm copper,pink shell,rough linen,"
    "woven grass,clear wax,dark amber,bright brass,fine sand,pale birch"
)
"""What a thing is made of."""

USES = _list(
    "keep bees warm,catch falling leaves,carry hot soup,scare crows away,call sheep home,measure the rain,"
    "clean muddy boots,light dark stairs,cool fresh milk,find lost keys,mix thick paint,hold wet umbrellas,"
    "wake sleepy cats,dry wet socks,crack hard nuts,polish old coins,roll up maps,feed shy birds,"
    "water tall plants,count passing boats,close noisy doors,cut long grass,move heavy stones,sort small buttons"
)
"""What people use a thing for: "people use it to keep bees warm"."""

PLACES = _list(
    "mountain villages,fishing boats,old kitchens,quiet libraries,busy markets,cold cellars,high towers,"
    "sunny gardens,small schools,windy harbours,deep forests,stone barns,village shops,dusty attics,"
    "train stations,royal palaces,music rooms,river mills,empty castles,green valleys,island huts,"
    "bakers' ovens,flower shops,winter tents"
)
"""Where a thing is found: "you can find it in old kitchens"."""

FUNCTION_NAMES = _list(
    "pick,solve,work,gather,collect,make,run,answer,result,compute,handle,process,find,build,check,scan,"
    "walk,take,give,look,turn,draw,move,join,sift,comb,reap,trim,fold,pack"
)
"""What a requested Python function is called."""
