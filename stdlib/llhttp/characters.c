/* characters.c: what bytes may be part of. */
#include "parser.h"

#define LETTER (IN_TOKEN | IN_HOST)

const uint8_t characters[256] = {
    ['0' ... '9'] = LETTER, ['A' ... 'Z'] = LETTER, ['a' ... 'z'] = LETTER, ['!'] = LETTER,
    ['$'] = LETTER,         ['%'] = LETTER,         ['&'] = LETTER,         ['\''] = LETTER,
    ['*'] = LETTER,         ['+'] = LETTER,         ['-'] = LETTER,         ['.'] = LETTER,
    ['_'] = LETTER,         ['~'] = LETTER,         ['#'] = IN_TOKEN,       ['^'] = IN_TOKEN,
    ['`'] = IN_TOKEN,       ['|'] = IN_TOKEN,       ['('] = IN_HOST,        [')'] = IN_HOST,
    [';'] = IN_HOST,        ['='] = IN_HOST,        [':'] = IN_HOST,        ['['] = IN_HOST,
    [']'] = IN_HOST};
