/*-------------------------------------------------------------------------
 *
 * tokenizer_bytes.c
 *		How the file of a byte-level BPE spells bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_bytes.h"
#include "utf8.h"

static bool
is_printable_byte(int b)
{
	return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

static int
byte_to_code(int byte)
{
	int rank = 0;

	if (is_printable_byte(byte))
		return byte;
	for (int b = 0; b < byte; b++)
		rank += !is_printable_byte(b);
	return 0x100 + rank;
}

/* -1 for a character that stands for no byte */
static int
code_to_byte(int32_t code)
{
	if (code < 0x100)
		return code >= 0 && is_printable_byte(code) ? (int) code : -1;
	if (code <= 0x120)
		return code - 0x100; /* 0 .. 32 */
	if (code <= 0x142)
		return code - 0x121 + 0x7f; /* 127 .. 160 */
	return code == 0x143 ? 0xad : -1;
}

size_t
dsocr_bpe_spell_byte(int byte, char text[2])
{
	int code = byte_to_code(byte);

	if (code < 0x80)
	{
		text[0] = (char) code;
		return 1;
	}
	text[0] = (char) (0xc0 | code >> 6);
	text[1] = (char) (0x80 | (code & 0x3f));
	return 2;
}

bool
dsocr_bpe_spell_bytes(const char *token, size_t len, DsocrBuffer *out, DsocrError *err)
{
	size_t before = out->len;

	for (size_t i = 0; i < len;)
	{
		int32_t code;
		size_t n = dsocr_utf8_next(token + i, len - i, &code);
		int byte = code_to_byte(code);
		char c = (char) byte;

		if (byte < 0)
		{
			out->len = before;
			return dsocr_buffer_append(out, token, len, err);
		}
		if (!dsocr_buffer_append(out, &c, 1, err))
			return false;
		i += n;
	}
	return true;
}
