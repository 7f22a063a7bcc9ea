# Writes a small C project to the directory that is the first argument: twenty parts, each in a file of
# its own, and a program that calls them all.
set -eu
mkdir -p "$1"
cd "$1"
printf '#ifndef PARTS_H\n#define PARTS_H\n' >parts.h
printf '#include <stdio.h>\n#include "parts.h"\n\nint main(void)\n{\n    long sum = 0;\n' >main.c
for part in $(seq 1 20); do
    printf 'long part%s(long);\n' "$part" >>parts.h
    printf '    sum += part%s(%s);\n' "$part" "$part" >>main.c
    cat >"part$part.c" <<END
#include <stdlib.h>
#include <string.h>
#include "parts.h"

long part$part(long n)
{
    return n * n;
}
END
done
printf '#endif\n' >>parts.h
printf '    printf("the sum of the squares of 1 to 20 is %%ld\\n", sum);\n    return 0;\n}\n' >>main.c
cat >Makefile <<'END'
CFLAGS = -O2 -Wall
objects = main.o $(patsubst %.c,%.o,$(wildcard part*.c))

squares: $(objects)
	$(CC) -o $@ $(objects)

$(objects): parts.h
END
