// Team notes in a page: join, write a note with a file, see those of others arrive.

const settings = new URLSearchParams(location.search);
const client = supabase.createClient(settings.get("url"), settings.get("key"));
const show = (id, text) => (document.getElementById(id).textContent = text);

function add(list, text) {
  const item = document.createElement("li");
  item.textContent = text;
  document.getElementById(list).append(item);
}

function checked({ data, error }) {
  if (error) throw error;
  return data;
}

const reported = (work) => async (event) => {
  event.preventDefault();
  try {
    await work(new FormData(event.target));
  } catch (error) {
    add("errors", error.message);
  }
};

document.getElementById("join").addEventListener(
  "submit",
  reported(async (form) => {
    const name = form.get("name");
    const joined = await client.auth.signUp({
      email: `${name}@example.test`,
      password: form.get("password"),
      options: { data: { name } },
    });
    checked(joined);
    client
      .channel("notes")
      .on(
        "postgres_changes",
        { event: "INSERT", schema: "public", table: "notes" },
        ({ new: note }) => add("notes", `${note.title} (${note.attachment ?? "no file"})`),
      )
      .subscribe((status, error) => {
        if (error) add("errors", error.message);
        if (status === "SUBSCRIBED") show("status", `listening as ${name}`);
      });
    document.getElementById("write").hidden = false;
  }),
);

document.getElementById("write").addEventListener(
  "submit",
  reported(async (form) => {
    const { user } = checked(await client.auth.getUser());
    const file = form.get("file");
    let attachment = null;
    if (file.size > 0) {
      const path = `${user.id}/${file.name}`;
      attachment = checked(
        await client.storage.from("attachments").upload(path, file),
      ).path;
    }
    const note = { title: form.get("title"), shared: true, attachment };
    checked(await client.from("notes").insert(note));
  }),
);
