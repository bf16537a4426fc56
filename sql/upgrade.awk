# Writes an update script: upgrade.sql.in with statements of the installation script
# put in its two places.  Call: awk -f upgrade.awk pgmq--VERSION.sql upgrade.sql.in
#
#   @NEW_FUNCTIONS@  every CREATE FUNCTION, but in the schema pgmq_upgrade
#   @NEW_OBJECTS@    every statement, such that it replaces or keeps what is there
#
# Not among the latter are types and privileges, which upgrade.sql.in sees to, and DO
# blocks, which are about a fresh installation.  A statement ends with ";" at the end of a line.

function is_in_body(text) {
	return gsub(/\$[A-Za-z0-9_]*\$/, "&", text) % 2
}

function add(statement, changed) {
	if (statement ~ /^CREATE FUNCTION pgmq\./) {
		changed = statement
		sub(/^CREATE FUNCTION pgmq\./, "CREATE FUNCTION pgmq_upgrade.", changed)
		new_functions = new_functions changed "\n"
		sub(/^CREATE FUNCTION/, "CREATE OR REPLACE FUNCTION", statement)
	} else if (statement ~ /^CREATE (UNLOGGED )?TABLE/)
		sub(/TABLE/, "TABLE IF NOT EXISTS", statement)
	else if (statement ~ /^CREATE INDEX/)
		sub(/INDEX/, "INDEX IF NOT EXISTS", statement)
	else if (statement ~ /^(CREATE TYPE|GRANT|DO) /)
		return
	new_objects = new_objects statement "\n"
}

FNR == 1 { n_files++ }

n_files == 1 {
	if (statement == "" && /^(--|\\|[[:space:]]*$)/)
		next
	statement = statement (statement == "" ? "" : "\n") $0
	if (/;[[:space:]]*$/ && !is_in_body(statement)) {
		add(statement)
		statement = ""
	}
	next
}

/^@NEW_FUNCTIONS@$/ { printf "%s", new_functions; next }
/^@NEW_OBJECTS@$/ { printf "%s", new_objects; next }
{ print }
