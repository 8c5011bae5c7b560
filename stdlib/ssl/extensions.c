/* extensions.c: a certificate's extensions as a table. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls.h"

/* Pushes the list `key` of the table at `table`, made if need be. */
static void push_list(lua_State *L, int table, const char *key) {
  if (lua_getfield(L, table, key) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, table, key);
  }
}

/* Appends the value on top (popped) to the list `key`. */
static void append(lua_State *L, int table, const char *key) {
  push_list(L, table, key);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  lua_pop(L, 1);
}

static void push_address(lua_State *L, const ASN1_OCTET_STRING *address) {
  char text[INET6_ADDRSTRLEN];
  int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
  int size = family == AF_INET ? 4 : 16;
  if (ASN1_STRING_length(address) == size &&
      inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text))
    lua_pushstring(L, text);
  else
    certificate_push_string(L, address, false);
}

/* A name of a kind that only its own standard knows, under its oid. */
static void add_other(lua_State *L, int table, const OTHERNAME *other, bool utf8) {
  char oid[128];
  OBJ_obj2txt(oid, sizeof oid, other->type_id, 1);
  if (other->value->type != V_ASN1_UTF8STRING && other->value->type != V_ASN1_IA5STRING)
    return;
  push_list(L, table, oid);
  lua_pushstring(L, OBJ_nid2ln(OBJ_obj2nid(other->type_id)));
  lua_setfield(L, -2, "name");
  lua_pop(L, 1);
  certificate_push_string(L, other->value->value.asn1_string, utf8);
  append(L, table, oid);
}

static void add_name(lua_State *L, int table, const GENERAL_NAME *name, bool utf8) {
  switch (name->type) {
  case GEN_DNS:
    certificate_push_string(L, name->d.dNSName, utf8);
    append(L, table, "dNSName");
    break;
  case GEN_EMAIL:
    certificate_push_string(L, name->d.rfc822Name, utf8);
    append(L, table, "rfc822Name");
    break;
  case GEN_URI:
    certificate_push_string(L, name->d.uniformResourceIdentifier, utf8);
    append(L, table, "uniformResourceIdentifier");
    break;
  case GEN_IPADD:
    push_address(L, name->d.iPAddress);
    append(L, table, "iPAddress");
    break;
  case GEN_OTHERNAME:
    add_other(L, table, name->d.otherName, utf8);
    break;
  default: /* rare, and of no use to tell a peer by */
    break;
  }
}

static void add_names(lua_State *L, int table, X509_EXTENSION *extension, bool utf8) {
  GENERAL_NAMES *names = X509V3_EXT_d2i(extension);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
    add_name(L, table, sk_GENERAL_NAME_value(names, i), utf8);
  GENERAL_NAMES_free(names);
}

/* The extension as `openssl x509 -text` prints it. */
static void add_text(lua_State *L, int table, X509_EXTENSION *extension) {
  BIO *bio = BIO_new(BIO_s_mem());
  char *data;
  if (bio && X509V3_EXT_print(bio, extension, 0, 0) == 1) {
    long size = BIO_get_mem_data(bio, &data);
    lua_pushlstring(L, data, (size_t)size);
    lua_setfield(L, table, "value");
  }
  BIO_free(bio);
}

void extensions_push(lua_State *L, X509 *x509, bool utf8) {
  ERR_clear_error();
  lua_newtable(L);
  for (int i = 0; i < X509_get_ext_count(x509); i++) {
    X509_EXTENSION *extension = X509_get_ext(x509, i);
    const ASN1_OBJECT *object = X509_EXTENSION_get_object(extension);
    int nid = OBJ_obj2nid(object);
    char oid[128];
    OBJ_obj2txt(oid, sizeof oid, object, 1);
    lua_newtable(L);
    lua_pushstring(L, nid == NID_undef ? oid : OBJ_nid2ln(nid));
    lua_setfield(L, -2, "name");
    if (nid == NID_subject_alt_name)
      add_names(L, lua_gettop(L), extension, utf8);
    else
      add_text(L, lua_gettop(L), extension);
    lua_setfield(L, -2, oid);
  }
}
