#include "cli.h"
int
dsocr_cli_quantize(int argc, char **argv)
{
	return 1;
}
