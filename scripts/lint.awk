# Rules for C files, called by lint: awk -f lint.awk -v contract=FILE src/...
#
# contract holds beginnings of messages whose wording the SQL API fixes, and which
# therefore need not follow the server's message style.

BEGIN {
	# A file includes headers of its own folder and of lower levels only.
	level["common"] = 0
	level["shmem"] = 1
	level["xact"] = 2
	level["am"] = 3
	level["scan"] = level["worker"] = 4
	level["api"] = 5
	level["."] = 6
	# Whoever is above xact/ reaches the ring through it.
	near_ring["shmem"] = near_ring["xact"] = near_ring["."] = 1
	longest_function = 150

	while ((getline line < contract) > 0)
		fixed[++n_fixed] = line
}

function problem(line, text) {
	print FILENAME ":" line ": " text
}

FNR == 1 {
	in_comment = depth = 0
	statement = ""
	folder = FILENAME
	sub(/^src\//, "", folder)
	if (!sub(/\/.*/, "", folder))
		folder = "."
}

{
	check_layout($0)
	split_line($0)
	check_include($0)
	if (bare ~ /PG_VERSION_NUM/ && FILENAME !~ /^src\/common\/compat\.[ch]$/)
		problem(FNR, "PG_VERSION_NUM belongs in common/compat.h")
	measure_function()
	collect_report()
}

function check_layout(line) {
	if (line ~ /[ \t]$/)
		problem(FNR, "white space at the end of the line")
	if (!in_comment && line ~ /^\t*    /)
		problem(FNR, "indent with tabs")
}

# Sets code: the line without comments; and bare: without the text of strings, too.
function split_line(rest) {
	code = bare = ""
	while (rest != "") {
		if (in_comment) {
			if (!match(rest, /\*\//))
				return
			in_comment = 0
			rest = substr(rest, RSTART + 2)
		} else if (!match(rest, /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\/\*|\/\//)) {
			code = code rest
			bare = bare rest
			return
		} else
			rest = split_token(rest, RSTART, RLENGTH)
	}
}

function split_token(rest, start, len,    token) {
	token = substr(rest, start, len)
	code = code substr(rest, 1, start - 1)
	bare = bare substr(rest, 1, start - 1)
	if (token == "//") {
		problem(FNR, "write comments as /* ... */")
		return ""
	}
	if (token == "/*")
		in_comment = 1
	else {
		code = code token
		bare = bare "\"\""
	}
	return substr(rest, start + len)
}

function check_include(line,    target) {
	if (bare !~ /^#[ \t]*include[ \t]+""/ || line !~ /"[a-z]+\//)
		return
	target = line
	gsub(/^[^"]*"|\/.*/, "", target)
	if (!(target in level))
		return # the server's
	if (target != folder && level[target] >= level[folder])
		problem(FNR, folder "/ must not know " target "/")
	else if (target == "shmem" && !(folder in near_ring))
		problem(FNR, folder "/ reaches shmem/ through xact/ only")
}

# pgindent puts a function's name and its braces at the start of a line.
function measure_function() {
	if (bare ~ /^[a-z_A-Z0-9]+\(/) {
		name = bare
		sub(/\(.*/, "", name)
		name_line = FNR
	}
	if (bare ~ /^}$/ && name_line) {
		if (FNR - name_line + 1 > longest_function)
			problem(name_line, name "() has " FNR - name_line + 1 " lines, more than " longest_function)
		name_line = 0
	}
}

# Puts together a call of ereport() that spans lines, then checks it.
function collect_report() {
	if (statement == "") {
		if (!match(bare, /(^|[^a-z_])ereport\(/))
			return
		statement_line = FNR
		depth = 0
	}
	statement = statement " " code
	depth += gsub(/\(/, "(", bare) - gsub(/\)/, ")", bare)
	if (depth <= 0) {
		check_report(statement)
		statement = ""
	}
}

function check_report(text,    call) {
	if (text ~ /ereport\((ERROR|FATAL|PANIC)/ && text !~ /errcode/)
		problem(statement_line, "ereport() without errcode()")
	while (match(text, /err(msg|detail|hint)(_plural)?\([ \t]*"/)) {
		call = substr(text, RSTART, 6)
		text = substr(text, RSTART + RLENGTH - 1)
		text = read_literal(text)
		if (call == "errmsg")
			check_primary(literal)
		else
			check_sentence(literal)
	}
}

# Sets literal to the string, or the adjacent strings, that text starts with
function read_literal(text) {
	literal = ""
	while (match(text, /^[ \t]*"([^"\\]|\\.)*"/)) {
		literal = literal substr(text, RSTART, RLENGTH)
		text = substr(text, RSTART + RLENGTH)
	}
	gsub(/"[ \t]*"/, "", literal)
	gsub(/\\"/, "\001", literal)
	gsub(/^[ \t]*"|"$/, "", literal)
	gsub(/\001/, "\"", literal)
	return text
}

function check_primary(message,    i) {
	for (i = 1; i <= n_fixed; i++)
		if (index(message, fixed[i]) == 1)
			return
	if (message ~ /^[A-Z][a-z]/)
		problem(statement_line, "a primary message starts in lower case: " message)
	if (message ~ /\.$/)
		problem(statement_line, "a primary message has no full stop: " message)
}

function check_sentence(message) {
	if (message ~ /^[a-z]/ || message != "%s" && message !~ /[.?]$/)
		problem(statement_line, "details and hints are sentences: " message)
}
