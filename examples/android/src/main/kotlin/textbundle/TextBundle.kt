package textbundle

import java.io.File
import java.security.MessageDigest
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.Interpreter

/**
 * A folder that keras_addnorm's `to_text_bundle` wrote, run by LiteRT: a text in, numbers out.
 *
 * The numbers are an embedding, or what a classifier gives for each of [labels]. One text a call,
 * as long as it is: nothing is padded. Not for several threads at once; make one each.
 *
 * @param folder the bundle, in the application's files.
 * @throws IllegalStateException if a file is not what the manifest says, or the tokenizer not the
 *   model's.
 */
class TextBundle(private val folder: File, threads: Int = 2) : AutoCloseable {
  private val manifest = JSONObject(read("manifest.json"))
  private val signatures = manifest.getJSONObject("model").getJSONArray("signatures").objects()
  private val padId: Int
  private val tokenizer: BertTokenizer
  private val interpreter: Interpreter

  /** The names of a classifier's outputs, in their order; empty for an embedder. */
  val labels: List<String> =
    if (manifest.isNull("labels")) emptyList() else lines(manifest.getString("labels"))

  init {
    check(manifest.getInt("version") == 1) { "This code reads bundles of version 1." }
    checkFiles()
    val settings = manifest.getJSONObject("tokenizer")
    check(!settings.isNull("vocabulary")) { "The bundle's tokenizer is not WordPiece." }
    val special = settings.getJSONObject("special_tokens")
    padId = settings.getInt("pad_token_id")
    tokenizer =
      BertTokenizer(
        vocabulary = lines(settings.getString("vocabulary")),
        maxLength = settings.getInt("max_length"),
        unknown = special.getString("unk_token"),
        start = special.getString("cls_token"),
        end = special.getString("sep_token"),
        special = special.keys().asSequence().map(special::getString).toSet(),
      )
    checkTokenizer()
    val model = folder.resolve(manifest.getJSONObject("model").getString("file"))
    interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
  }

  /** What the model gives for a text. */
  fun run(text: String): FloatArray {
    val ids = tokenizer.encode(text)
    val signature = signatures.filter { fits(it, ids.size) }.minByOrNull { length(it, ids.size) }
    checkNotNull(signature) { "The model takes no ${ids.size} tokens." }
    val length = length(signature, ids.size)
    val inputs =
      signature.getJSONArray("inputs").objects().map { it.getString("name") }.associateWith {
        arrayOf(input(it, ids, length))
      }
    val output = signature.getJSONArray("outputs").getJSONObject(0)
    val shape = output.getJSONArray("shape")
    val values = arrayOf(FloatArray(shape.getInt(shape.length() - 1)))
    val name = signature.getString("name")
    interpreter.runSignature(inputs, mapOf(output.getString("name") to values), name)
    return values[0]
  }

  private fun input(name: String, ids: IntArray, length: Int) =
    when (name) {
      "token_ids" -> IntArray(length) { if (it < ids.size) ids[it] else padId }
      "padding_mask" -> IntArray(length) { if (it < ids.size) 1 else 0 }
      "segment_ids" -> IntArray(length)
      else -> error("The model has an input that this code does not know: $name.")
    }

  private fun fits(signature: JSONObject, tokens: Int) = length(signature, tokens) >= tokens

  private fun length(signature: JSONObject, tokens: Int) =
    if (signature.isNull("length")) tokens else signature.getInt("length")

  /** Holds the SHA-256 of each file against the manifest's. */
  private fun checkFiles() {
    val files = manifest.getJSONObject("files")
    for (name in files.keys()) {
      check(File(name).name == name) { "The manifest names a file outside the bundle: $name." }
      val digest = MessageDigest.getInstance("SHA-256")
      folder.resolve(name).inputStream().use { stream ->
        val block = ByteArray(1 shl 16)
        generateSequence { stream.read(block) }.takeWhile { it >= 0 }.forEach {
          digest.update(block, 0, it)
        }
      }
      val found = digest.digest().joinToString("") { "%02x".format(it) }
      check(found == files.getJSONObject(name).getString("sha256")) {
        "$name is not the file that the manifest is for. Copy the bundle anew."
      }
    }
  }

  /** Tokenizes the bundle's examples; a model with other ids gives numbers that mean nothing. */
  private fun checkTokenizer() {
    for (case in JSONObject(read("tokenization.json")).getJSONArray("cases").objects()) {
      val text = case.getString("text")
      val expected = case.getJSONArray("ids").let { ids -> List(ids.length(), ids::getInt) }
      check(tokenizer.encode(text).toList() == expected) {
        "The tokenizer is not the model's: it has other ids for '$text'."
      }
    }
  }

  private fun read(name: String) = folder.resolve(name).readText()

  private fun lines(name: String) = read(name).removeSuffix("\n").split("\n")

  override fun close() = interpreter.close()
}

private fun JSONArray.objects() = List(length(), ::getJSONObject)
