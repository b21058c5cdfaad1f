/// <reference lib="deno.unstable" />

/** What the tests of this directory need to know of a module's text, read from its syntax tree. */
import { ROOT, sourceFiles } from "../../tools/source_files.ts";

/** An import of one module by another, re-exports and types included. */
export interface Import {
  /** As written. */
  readonly specifier: string;
  /** `import()`, which loads the module only when it is reached. */
  readonly dynamic: boolean;
}

/** A module's imports, and the names in it that might stand for something global. */
export interface ModuleSyntax {
  readonly imports: readonly Import[];
  /** Every name that is neither a property nor the key of one: `a.b` counts as `a`. */
  readonly names: ReadonlySet<string>;
  /** Every property that is read of a name, as `name.property`, in types too. */
  readonly properties: ReadonlySet<string>;
}

/** Nodes in which an identifier may stand as a key. */
type Keyed = Deno.lint.Property | Deno.lint.PropertyDefinition | Deno.lint.MethodDefinition;
const KEYED = new Set(["PropertyDefinition", "MethodDefinition", "TSPropertySignature", "TSMethodSignature"]);

function isSame(a: Deno.lint.Node, b: Deno.lint.Node): boolean {
  return a.range[0] === b.range[0] && a.range[1] === b.range[1];
}

/** Whether an identifier names a property and not a variable. */
function isPropertyName(node: Deno.lint.Identifier): boolean {
  const parent = node.parent;
  if (parent.type === "MemberExpression") return !parent.computed && isSame(parent.property, node);
  if (parent.type === "TSQualifiedName") return isSame(parent.right, node);
  if (parent.type === "Property" && parent.shorthand) return false;
  return (parent.type === "Property" || KEYED.has(parent.type)) && isSame((parent as Keyed).key, node);
}

/** Reads the text of a module. */
export function readSyntax(path: string, text: string): ModuleSyntax {
  const imports: Import[] = [];
  const names = new Set<string>();
  const properties = new Set<string>();
  const add = (source: Deno.lint.Node | null, dynamic: boolean) => {
    if (source?.type === "Literal" && typeof source.value === "string") {
      imports.push({ specifier: source.value, dynamic });
    }
  };
  const visitor: Deno.lint.LintVisitor = {
    ImportDeclaration: (node) => add(node.source, false),
    ExportNamedDeclaration: (node) => add(node.source, false),
    ExportAllDeclaration: (node) => add(node.source, false),
    ImportExpression: (node) => add(node.source, true),
    TSImportType(node) {
      if (node.argument.type === "TSLiteralType") add(node.argument.literal, false);
    },
    Identifier(node) {
      if (!isPropertyName(node)) names.add(node.name);
    },
    MemberExpression(node) {
      if (node.object.type === "Identifier" && node.property.type === "Identifier" && !node.computed) {
        properties.add(`${node.object.name}.${node.property.name}`);
      }
    },
    TSQualifiedName(node) {
      if (node.left.type === "Identifier") properties.add(`${node.left.name}.${node.right.name}`);
    },
  };
  Deno.lint.runPlugin({ name: "syntax", rules: { read: { create: () => visitor } } }, path, text);
  return { imports, names, properties };
}

/** All modules of the project but its tests, by path relative to the root. */
export function readProject(): Map<string, ModuleSyntax> {
  const paths = sourceFiles().filter((path) => path.endsWith(".ts") && !path.startsWith("tests/"));
  return new Map(paths.map((path) => [path, readSyntax(path, Deno.readTextFileSync(ROOT + path))]));
}

/** The module that an import of `from` means, as path relative to the root; null if it is none of the project's. */
export function resolveImport(from: string, specifier: string, importMap: Record<string, string>): string | null {
  const mapped = importMap[specifier];
  const url = mapped !== undefined ? new URL(mapped, "file:///") : new URL(specifier, `file:///${from}`);
  const isLocal = mapped?.startsWith("./") || specifier.startsWith("./") || specifier.startsWith("../");
  return isLocal ? url.pathname.slice(1) : null;
}
