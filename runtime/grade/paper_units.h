// paper_units.h - what the evaluation of Qwen2.5-Math takes for units, in its order, which matters:
// it is a list of facts about that program (mostly the units of MathQA), with its slips, and each
// counts once more with an s behind it. A point stands for any character.
#ifndef CFT_GRADE_PAPER_UNITS_H
#define CFT_GRADE_PAPER_UNITS_H

static const char *const paper_units[] = {
    "east",     "degree",   "mph",      "kmph",    "ft",
    "m sqaure", " m east",  "sq m",     "deg",     "mile",
    "q .",      "monkey",   "prime",    "ratio",   "profit of rs",
    "rd",       "o",        "gm",       "p . m",   "lb",
    "tile",     "per",      "dm",       "lt",      "gain",
    "ab",       "way",      "west",     "a .",     "b .",
    "c .",      "d .",      "e .",      "f .",     "g .",
    "h .",      "t",        "a",        "h",       "no change",
    "men",      "soldier",  "pie",      "bc",      "excess",
    "st",       "inches",   "noon",     "percent", "by",
    "gal",      "kmh",      "c",        "acre",    "rise",
    "a . m",    "th",       "π r 2",    "sq",      "mark",
    "l",        "toy",      "coin",     "sq . m",  "gallon",
    "° f",      "profit",   "minw",     "yr",      "women",
    "feet",     "am",       "pm",       "hr",      "cu cm",
    "square",   "v â € ™",  "are",      "rupee",   "rounds",
    "cubic",    "cc",       "mtr",      "s",       "ohm",
    "number",   "kmph",     "day",      "hour",    "minute",
    "min",      "second",   "man",      "woman",   "sec",
    "cube",     "mt",       "sq inch",  "mp",      "∏ cm ³",
    "hectare",  "more",     "sec",      "unit",    "cu . m",
    "cm 2",     "rs .",     "rs",       "kg",      "g",
    "month",    "km",       "m",        "cm",      "mm",
    "apple",    "liter",    "loss",     "yard",    "pure",
    "year",     "increase", "decrease", "d",       "less",
    "Surface",  "litre",    "pi sq m",  "s .",     "metre",
    "meter",    "inch",
};

#endif
