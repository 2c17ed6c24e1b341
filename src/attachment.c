/*-------------------------------------------------------------------------
 *
 * attachment.c
 *		What is attached to a table, and how its rows are named.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "attachment.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "catalog/dependency.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static const char *const part_names[DSOCR_N_PARTS] = {
	"image", "text", "layout", "tsvector", "language", "key", "page", "status", "confidence"};

/* ---- triggers ---- */

/* Names in order, one for each column of the trigger. */
static bool
parse_parts(const char *names, const Trigger *trigger, DsocrParts *parts)
{
	const char *p = names;

	memset(parts, 0, sizeof(*parts));
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		size_t len;
		int part;

		p += strspn(p, " ");
		len = strcspn(p, " ");
		for (part = 0; part < DSOCR_N_PARTS; part++)
		{
			if (strlen(part_names[part]) == len && strncmp(part_names[part], p, len) == 0)
				break;
		}
		if (part == DSOCR_N_PARTS)
			return false;
		parts->column[part] = trigger->tgattr[i];
		p += len;
	}
	return true;
}

bool
dsocr_parts_of_trigger(Relation rel, const Trigger *trigger, DsocrParts *parts)
{
	AttrNumber image;

	if (trigger->tgnargs != 3 || !parse_parts(trigger->tgargs[0], trigger, parts))
		return false;
	image = parts->column[DSOCR_PART_IMAGE];
	/* anybody can make such a trigger: bytes are only taken for bytes if they are */
	return image > 0 &&
		   getBaseType(TupleDescAttr(RelationGetDescr(rel), image - 1)->atttypid) == BYTEAOID;
}

int
dsocr_priority_of_trigger(const Trigger *trigger)
{
	int priority = atoi(trigger->tgargs[1]);

	return Min(Max(priority, 0), 9);
}

/* Does the trigger call this function of ours? */
static bool
calls(const Trigger *trigger, const char *function)
{
	char *name = get_func_name(trigger->tgfoid);
	bool same = name != NULL && strcmp(name, function) == 0;

	if (name != NULL)
		pfree(name);
	return same && getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) ==
					   get_extension_oid("dsocr", true);
}

static const Trigger *
find_trigger(Relation rel, const char *name, const char *function)
{
	if (rel->trigdesc == NULL)
		return NULL;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (strcmp(trigger->tgname, name) == 0 && calls(trigger, function))
			return trigger;
	}
	return NULL;
}

/* ---- side tables ---- */

/* Columns of a foreign key, as an array of pg_constraint has them. */
static int
constraint_columns(HeapTuple tuple, AttrNumber attribute, AttrNumber *columns)
{
	bool isnull;
	Datum datum = SysCacheGetAttr(CONSTROID, tuple, attribute, &isnull);
	ArrayType *array;
	int n;

	if (isnull)
		return 0;
	array = DatumGetArrayTypeP(datum);
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	n = Min(n, INDEX_MAX_KEYS);
	memcpy(columns, ARR_DATA_PTR(array), n * sizeof(AttrNumber));
	return n;
}

/* Which columns refer to the primary key, in its order? */
static bool
map_side_key(Oid constraint, const DsocrRowKey *key, DsocrSide *side)
{
	HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	AttrNumber from[INDEX_MAX_KEYS];
	AttrNumber to[INDEX_MAX_KEYS];
	int n;

	if (!HeapTupleIsValid(tuple))
		return false;
	n = constraint_columns(tuple, Anum_pg_constraint_conkey, from);
	if (constraint_columns(tuple, Anum_pg_constraint_confkey, to) != n)
		n = 0;
	ReleaseSysCache(tuple);
	if (n != key->n)
		return false;
	for (int i = 0; i < n; i++)
	{
		int j = 0;

		while (j < n && to[j] != key->column[i])
			j++;
		if (j == n)
			return false;
		side->key[i] = from[j];
	}
	side->n_keys = n;
	return true;
}

/*
 * The side table refers to this one by a foreign key, whose triggers here name
 * it, and has a trigger with the name of the attachment.
 */
static void
find_side(Relation rel, const char *name, DsocrSide *side)
{
	DsocrRowKey key;

	memset(side, 0, sizeof(*side));
	if (rel->trigdesc == NULL || !dsocr_row_key_describe(rel, &key))
		return;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *t = &rel->trigdesc->triggers[i];
		const Trigger *marker;
		Relation other;
		bool found;

		if (!OidIsValid(t->tgconstrrelid) || t->tgconstrrelid == RelationGetRelid(rel))
			continue;
		other = try_relation_open(t->tgconstrrelid, AccessShareLock);
		if (other == NULL)
			continue;
		marker = find_trigger(other, name, "dsocr_attach_side");
		found = marker != NULL && marker->tgnargs == 1 &&
				parse_parts(marker->tgargs[0], marker, &side->parts) &&
				map_side_key(t->tgconstraint, &key, side);
		relation_close(other, NoLock);
		if (found)
		{
			side->relid = t->tgconstrrelid;
			return;
		}
	}
}

bool
dsocr_attachment_find(Relation rel, const char *name, DsocrAttachment *a)
{
	const Trigger *trigger = find_trigger(rel, name, "dsocr_attach_row");

	if (trigger == NULL || !dsocr_parts_of_trigger(rel, trigger, &a->parts))
		return false;
	a->options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(trigger->tgargs[2])));
	if (!JB_ROOT_IS_OBJECT(a->options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options of trigger \"%s\" on table \"%s\" are no JSON object", name,
							   RelationGetRelationName(rel))));
	find_side(rel, name, &a->side);
	return true;
}

/* ---- naming rows ---- */

bool
dsocr_row_key_describe(Relation rel, DsocrRowKey *key)
{
	Relation index;
	bool usable;

	key->n = 0;
	list_free(RelationGetIndexList(rel));
	if (!OidIsValid(rel->rd_pkindex))
		return false;
	index = index_open(rel->rd_pkindex, AccessShareLock);
	usable = index->rd_rel->relam == BTREE_AM_OID;
	for (int i = 0; usable && i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		Oid type = index->rd_opcintype[i];

		key->column[i] = index->rd_index->indkey.values[i];
		key->equality[i] =
			get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);
		key->n++;
		usable = OidIsValid(key->equality[i]);
	}
	index_close(index, AccessShareLock);
	return usable;
}

static void
append_value(StringInfo out, const char *value)
{
	bool plain = *value != '\0' && pg_strcasecmp(value, "NULL") != 0;

	for (const char *p = value; plain && *p != '\0'; p++)
		plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
				*p == '-' || *p == '_' || *p == '.' || *p == ':';
	if (plain)
	{
		appendStringInfoString(out, value);
		return;
	}
	appendStringInfoChar(out, '"');
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *p);
	}
	appendStringInfoChar(out, '"');
}

void
dsocr_row_key_join(StringInfo out, char *const *values, int n)
{
	initStringInfo(out);
	appendStringInfoChar(out, '{');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		append_value(out, values[i] ? values[i] : "");
	}
	appendStringInfoChar(out, '}');
}

char *
dsocr_row_key_of(Relation rel, const DsocrRowKey *key, TupleTableSlot *slot)
{
	char *values[INDEX_MAX_KEYS];
	StringInfoData out;

	for (int i = 0; i < key->n; i++)
	{
		bool isnull;
		Datum value = slot_getattr(slot, key->column[i], &isnull);
		Oid function;
		bool varlena;

		getTypeOutputInfo(TupleDescAttr(RelationGetDescr(rel), key->column[i] - 1)->atttypid,
						  &function, &varlena);
		values[i] = isnull ? NULL : OidOutputFunctionCall(function, value);
	}
	dsocr_row_key_join(&out, values, key->n);
	return out.data;
}

bool
dsocr_row_key_split(const char *text, const DsocrRowKey *key, char **values)
{
	const char *p = text;
	int n = 0;

	if (*p++ != '{')
		return false;
	while (n < key->n)
	{
		StringInfoData value;
		bool quoted = *p == '"';

		initStringInfo(&value);
		if (quoted)
			p++;
		while (*p != '\0' && (quoted ? *p != '"' : *p != ',' && *p != '}'))
		{
			if (*p == '\\' && p[1] != '\0')
				p++;
			appendStringInfoChar(&value, *p++);
		}
		if (quoted && *p++ != '"')
			return false;
		values[n++] = value.data;
		if (*p != ',')
			break;
		p++;
	}
	return n == key->n && p[0] == '}' && p[1] == '\0';
}

/* A scalar of a JSON object as text. */
static char *
scalar_text(const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
		case jbvBool:
			return pstrdup(v->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

char *
dsocr_row_key_from_jsonb(Oid relid, Jsonb *json, const char *document_column)
{
	Relation rel = table_open(relid, AccessShareLock);
	AttrNumber column = get_attnum(relid, document_column);
	char *values[INDEX_MAX_KEYS];
	StringInfoData out;
	DsocrRowKey key;

	if (!dsocr_row_key_describe(rel, &key))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" has no primary key to find rows by",
							   RelationGetRelationName(rel))));
	if (column <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of table \"%s\" does not exist", document_column,
							   RelationGetRelationName(rel))));
	if (getBaseType(get_atttype(relid, column)) != BYTEAOID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of table \"%s\" is not of type bytea",
							   document_column, RelationGetRelationName(rel))));
	if (pg_attribute_aclcheck(relid, column, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	if (!JB_ROOT_IS_OBJECT(json) || JB_ROOT_COUNT(json) != (uint32) key.n)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("key must be an object with the columns of the primary key"),
						errhint("For example {\"id\": 7}.")));

	for (int i = 0; i < key.n; i++)
	{
		const char *name = get_attname(relid, key.column[i], false);
		JsonbValue value;

		values[i] = NULL;
		if (getKeyJsonValueFromContainer(&json->root, name, strlen(name), &value) != NULL)
			values[i] = scalar_text(&value);
		if (values[i] == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("key has no value for column \"%s\" of the primary key", name)));
	}
	dsocr_row_key_join(&out, values, key.n);
	table_close(rel, NoLock);
	return out.data;
}
